"""A receipt of every instruction that was refused, in a file that no flood of them can fill."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from client.egress.receipts import altered, cannot_write
from shared_model.chain.lines import ChainedLines, Link


class Refused(BaseModel):
    """Why an instruction was refused, and what it said it was.

    The claims are those of whoever sent it: only where ``signed`` is true are they the
    coordinator's own words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    signed: bool = Field(description="the coordinator's signature holds")
    run_id: str | None = None
    round: int | None = None
    kind: str | None = None
    plan_digest: str | None = None
    instruction_sha256: str | None = None
    bytes: int | None = Field(default=None, description="of header and body together")


class Refusal(Link):
    """A refusal at its place in the chain; ``count`` is its number of the day, by code."""

    refused: Refused
    count: int


class Refusals:
    """Hash-chained JSON lines: the 1st, 2nd, 4th, 8th, ... refusal of a code on a day (UTC).

    The first is on the disk before the refusal is told. However many messages a stranger sends, a
    code gets at most 2 + log2(n) lines a day for signed and as many for unsigned ones; a restart
    goes on from the last written count, so that counts are never too high.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = ChainedLines(path, Refusal, lambda found: altered(path, found))
        self._day = ""
        self._counts: dict[tuple[str, bool], int] = {}
        self._lock = threading.Lock()

    def note(self, refused: Refused) -> None:
        """Count a refusal, and write it when its turn comes; raises SMR-E326 or SMR-E327."""
        with self._lock:
            try:
                self._count(refused)
            except OSError as error:
                raise cannot_write(self._path, error) from error

    def _count(self, refused: Refused) -> None:
        day = datetime.now(UTC).date().isoformat()
        if day != self._day:
            self._counts, self._day = self._counts_of(day), day
        key = refused.code, refused.signed
        count = self._counts.get(key, 0) + 1
        self._counts[key] = count
        if count & (count - 1) == 0:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lines.append({"refused": refused.model_dump(mode="json"), "count": count})

    def read(self) -> tuple[Refusal, ...]:
        """All lines, verified; raises SMR-E326 where the chain is broken."""
        return self._lines.read()

    def _counts_of(self, day: str) -> dict[tuple[str, bool], int]:
        return {
            (line.refused.code, line.refused.signed): line.count
            for line in self.read()
            if line.time.startswith(day)
        }
