"""A record of every app bundle that was refused, bounded per day, so that no flood can fill it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from client.egress.receipts import altered
from shared_model.chain.lines import ChainedLines, Link

FILE_NAME = "refused-bundles.jsonl"
_PER_DAY = 50


class RefusedBundle(Link):
    """One refusal: which bundle, of which Flower run, and how large it was."""

    bundle_sha256: str
    flower_run_id: str = Field(description="as Flower names it; whoever started the run chose it")
    bytes: int


def refused_bundles(path: Path) -> ChainedLines[RefusedBundle]:
    """The hash-chained file; every line is on the disk before the refusal is told."""
    return ChainedLines(path, RefusedBundle, lambda found: altered(path, found))


def note_bundle(path: Path, sha256: str, run_id: str, size: int) -> bool:
    """Append a refusal, fifty a day at most; false when the day has its lines already.

    Raises OSError when it cannot be written and SMR-E326 when the lines before were altered.
    """
    lines = refused_bundles(path)
    today = datetime.now(UTC).date().isoformat()
    if sum(line.time.startswith(today) for line in lines.read()) >= _PER_DAY:
        return False
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lines.append({"bundle_sha256": sha256, "flower_run_id": run_id, "bytes": size})
    return True
