"""What people decided about scans, kept with who, when and why: hash-chained JSON lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from client.agent.durable import make_private_folder
from client.quality.verdict import Result, Verdict
from shared_model.chain.lines import ChainedLines, Link
from shared_model.errors import SmrfedError


class Override(Link):
    """One person's decision about one scan, at its place in the chain."""

    source_sha256: str = Field(description="of the file, so that it does not hold for another one")
    decision: Literal["accept", "reject"]
    seen: Result = Field(description="the verdict that the person had before them")
    who: str
    why: str


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
        self._lines = ChainedLines(self._path, Override, self._altered)

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
            return self._lines.append(content)
        except OSError as error:
            raise SmrfedError(
                "SMR-E272",
                f"the decision cannot be written to {self._path}",
                found=error.strerror or error,
                remedy="free disk space or correct the folder's permissions, then decide again",
            ) from error

    def read(self) -> tuple[Override, ...]:
        """All decisions, oldest first; raises SMR-E271 where the chain is broken."""
        return self._lines.read()

    def latest(self) -> dict[str, Override]:
        """The decision that counts, by the SHA-256 of the scan's file. Raises SMR-E271."""
        return {override.source_sha256: override for override in self.read()}

    def _altered(self, found: str) -> SmrfedError:
        return SmrfedError(
            "SMR-E271",
            f"the decisions about scans in {self._path} were altered or shortened",
            expected="an unbroken hash chain up to its anchor",
            found=found,
            remedy="restore the newest copy together with its .head file, or remove both and "
            "decide again",
        )
