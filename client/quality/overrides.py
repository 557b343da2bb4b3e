"""What people decided about scans, kept with who, when and why: hash-chained JSON lines."""

from __future__ import annotations

import fcntl
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from client.agent.durable import make_private_folder
from client.privacy.head_anchor import GENESIS, chain_digest, read_anchor, write_anchor
from client.quality.verdict import Result, Verdict
from shared_model.errors import SmrfedError


class Override(BaseModel):
    """One person's decision about one scan, at its place in the chain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    time: str = Field(description="UTC, ISO 8601")
    source_sha256: str = Field(description="of the file, so that it does not hold for another one")
    decision: Literal["accept", "reject"]
    seen: Result = Field(description="the verdict that the person had before them")
    who: str
    why: str
    previous: str
    digest: str


class Overrides:
    """Append-only decisions below ``state_dir/quality``; the latest about a scan counts.

    Each line is on the disk before it counts. A line that a crash cut short never counted; the next
    one drops it. ``overrides.jsonl.head`` names a decision that must be there, so that a shortened
    file is noticed.

    Args:
        state_dir: the site's state folder.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "quality" / "overrides.jsonl"
        self._anchor = self._path.with_name(self._path.name + ".head")

    def record(
        self,
        source_sha256: str,
        decision: Literal["accept", "reject"],
        verdict: Verdict,
        *,
        who: str,
        why: str,
    ) -> Override:
        """Store a decision about a scan with this verdict.

        Raises SMR-E270 for accepting what nobody can accept, E271 for a chain that was altered,
        E272 when it cannot be written, E273 without a name, a reason or a digest.
        """
        who, why = who.strip(), why.strip()
        if not who or not why or not re.fullmatch(r"[0-9a-f]{64}", source_sha256):
            raise SmrfedError(
                "SMR-E273",
                "a decision about a scan is incomplete",
                expected="the scan's SHA-256, who decides, and why",
                found=f"scan {source_sha256[:12] or 'missing'}, who {who!r}, why {why!r}",
                remedy="name the scan as the quality page does, yourself and the reason",
            )
        if decision == "accept" and verdict.final:
            reasons = ", ".join(r.id for r in verdict.reasons if r.final and r.level == "fail")
            raise SmrfedError(
                "SMR-E270",
                f"scan {source_sha256[:12]} cannot be accepted",
                expected="a scan that needs review, or fails for a reason that a person may judge",
                found=reasons,
                remedy="mend the scan (orientation, series, conversion) and prepare it again",
            )
        content: dict[str, object] = {
            "source_sha256": source_sha256, "decision": decision, "seen": verdict.result,
            "who": who, "why": why,
        }  # fmt: skip
        try:
            make_private_folder(self._path.parent)
            with self._path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                known = self._parse(_complete_lines(file))
                override = _next(known[-1] if known else None, content)
                file.write(override.model_dump_json().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
                write_anchor(self._anchor, override.number, override.digest)
        except OSError as error:
            raise SmrfedError(
                "SMR-E272",
                f"the decision cannot be written to {self._path}",
                found=error.strerror or error,
                remedy="free disk space or correct the folder's permissions, then decide again",
            ) from error
        return override

    def read(self) -> tuple[Override, ...]:
        """All decisions, oldest first; raises SMR-E271 where the chain is broken."""
        if not self._path.exists():
            return self._parse([])
        with self._path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return self._parse(file.read().split(b"\n")[:-1])

    def latest(self) -> dict[str, Override]:
        """The decision that counts, by the SHA-256 of the scan's file. Raises SMR-E271."""
        return {override.source_sha256: override for override in self.read()}

    def _parse(self, lines: list[bytes]) -> tuple[Override, ...]:
        anchor = read_anchor(self._anchor)
        previous, anchored = GENESIS, anchor is None
        out: list[Override] = []
        for number, line in enumerate(lines, start=1):
            try:
                override = Override.model_validate_json(line)
                content = override.model_dump(mode="json", exclude={"previous", "digest"})
                sound = override.previous == previous and override.number == number
                sound = sound and chain_digest(previous, content) == override.digest
            except (ValidationError, ValueError):
                sound = False
            if not sound:
                raise self._altered(f"line {number} does not continue the chain")
            previous = override.digest
            anchored = anchored or (number, previous) == anchor
            out.append(override)
        if not anchored:
            raise self._altered(
                f"{len(lines)} lines; the one that {self._anchor.name} names is gone"
            )
        return tuple(out)

    def _altered(self, found: str) -> SmrfedError:
        return SmrfedError(
            "SMR-E271",
            f"the decisions about scans in {self._path} were altered or shortened",
            expected="an unbroken hash chain up to its anchor",
            found=found,
            remedy="restore the newest copy together with its .head file, or remove both and "
            "decide again",
        )


def _complete_lines(file: BinaryIO) -> list[bytes]:
    file.seek(0)
    content = file.read()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        file.truncate(end)
    return content[:end].split(b"\n")[:-1]


def _next(last: Override | None, content: dict[str, object]) -> Override:
    number, previous = (last.number + 1, last.digest) if last else (1, GENESIS)
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    linked = {"number": number, "time": time, **content}
    digest = chain_digest(previous, linked)
    return Override.model_validate({**linked, "previous": previous, "digest": digest})
