"""A readable record of every decision about data leaving the hospital: hash-chained JSON lines."""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from client.privacy.head_anchor import GENESIS, chain_digest, read_anchor, write_anchor
from shared_model.errors import SmrfedError


class Decision(BaseModel):
    """One decision of the egress gate; holds nothing that depends on a patient beyond the digest.

    ``rule`` names what allowed the release, or the error number that refused it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    released: bool
    rule: str
    run_id: str
    round: int
    kind: str
    mode: str
    plan_digest: str
    arrays: int
    numbers: int
    bytes: int
    metrics: tuple[str, ...]
    body_sha256: str
    epsilon_after: float | None


class Receipt(BaseModel):
    """A decision at its place in the chain; ``time`` is UTC, ISO 8601."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    time: str
    decision: Decision
    previous: str
    digest: str


class Receipts:
    """Append-only JSON lines, each synced to disk before the decision takes effect.

    A line that a crash cut short belongs to a decision that never took effect; the next append
    drops it. ``<path>.head`` names a receipt that must be present, so a shortened file is noticed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._anchor = path.with_name(path.name + ".head")
        path.parent.mkdir(parents=True, exist_ok=True)

    def append(self, decision: Decision) -> Receipt:
        """Store one decision; raises SMR-E326 (altered file) or SMR-E327 (it cannot be written)."""
        try:
            with self._path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                receipts = self._parse(_complete_lines(file))
                receipt = _next(receipts[-1] if receipts else None, decision)
                file.write(receipt.model_dump_json().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
                write_anchor(self._anchor, receipt.number, receipt.digest)
        except OSError as error:
            raise SmrfedError(
                "SMR-E327",
                f"the receipt of a release cannot be written to {self._path}",
                found=error,
                remedy="free disk space or correct the permissions; "
                "nothing leaves without a receipt",
            ) from error
        return receipt

    def read(self) -> tuple[Receipt, ...]:
        """All receipts, verified; raises SMR-E326 where the chain is broken."""
        if not self._path.exists():
            return self._parse([])
        with self._path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return self._parse(file.read().split(b"\n")[:-1])

    def verify(self) -> int:
        """The number of receipts; raises SMR-E326 where the chain is broken."""
        return len(self.read())

    def _parse(self, lines: list[bytes]) -> tuple[Receipt, ...]:
        anchor = read_anchor(self._anchor)
        previous, anchored = GENESIS, anchor is None
        out: list[Receipt] = []
        for number, line in enumerate(lines, start=1):
            try:
                receipt = Receipt.model_validate_json(line)
                content = receipt.model_dump(mode="json", exclude={"previous", "digest"})
                sound = receipt.previous == previous and receipt.number == number
                sound = sound and chain_digest(previous, content) == receipt.digest
            except (ValidationError, ValueError):
                sound = False
            if not sound:
                raise self._altered(f"line {number} does not continue the chain")
            previous = receipt.digest
            anchored = anchored or (number, previous) == anchor
            out.append(receipt)
        if not anchored:
            raise self._altered(
                f"{len(lines)} lines; the one that {self._anchor.name} names is gone"
            )
        return tuple(out)

    def _altered(self, found: str) -> SmrfedError:
        return SmrfedError(
            "SMR-E326",
            f"the receipts {self._path} were altered or shortened",
            expected="an unbroken hash chain up to its anchor",
            found=found,
            remedy="restore the newest copy together with its .head file, and find out who "
            "wrote to it",
        )


def _complete_lines(file: BinaryIO) -> list[bytes]:
    file.seek(0)
    content = file.read()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        file.truncate(end)
    return content[:end].split(b"\n")[:-1]


def _next(last: Receipt | None, decision: Decision) -> Receipt:
    number, previous = (last.number + 1, last.digest) if last else (1, GENESIS)
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    content: dict[str, Any] = {
        "number": number, "time": time, "decision": json.loads(decision.model_dump_json()),
    }  # fmt: skip
    return Receipt(
        number=number, time=time, decision=decision, previous=previous,
        digest=chain_digest(previous, content),
    )  # fmt: skip
