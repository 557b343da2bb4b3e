"""A readable record of every decision about data leaving the hospital: hash-chained JSON lines."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from shared_model.chain.lines import ChainedLines, Link
from shared_model.errors import SmrfedError


class Decision(BaseModel):
    """One decision of the egress gate; holds nothing that depends on a patient beyond the digests.

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
    reply_sha256: str
    """Digest of header and body together: what the site signs and the coordinator acknowledges."""
    epsilon_after: float | None


class Receipt(Link):
    """A decision at its place in the chain."""

    decision: Decision


class Receipts:
    """Append-only JSON lines, each synced to disk before the decision takes effect.

    A line that a crash cut short belongs to a decision that never took effect; the next append
    drops it. ``<path>.head`` names a receipt that must be present, so a shortened file is noticed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = ChainedLines(path, Receipt, self._altered)
        path.parent.mkdir(parents=True, exist_ok=True)

    def append(self, decision: Decision) -> Receipt:
        """Store one decision; raises SMR-E326 (altered file) or SMR-E327 (it cannot be written)."""
        try:
            return self._lines.append({"decision": decision.model_dump(mode="json")})
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def read(self) -> tuple[Receipt, ...]:
        """All receipts, verified; raises SMR-E326 where the chain is broken."""
        return self._lines.read()

    def of_reply(self, reply_sha256: str) -> tuple[Receipt, ...]:
        """The receipts of one reply; raises SMR-E326 where the chain is broken."""
        lines = self._lines.naming(reply_sha256)
        return tuple(line for line in lines if line.decision.reply_sha256 == reply_sha256)

    def verify(self) -> int:
        """The number of receipts; raises SMR-E326 where the chain is broken."""
        return len(self.read())

    def _altered(self, found: str) -> SmrfedError:
        return altered(self._path, found)


def altered(path: Path, found: str) -> SmrfedError:
    """The error for a record of this hospital whose chain does not hold: SMR-E326."""
    return SmrfedError(
        "SMR-E326",
        f"the receipts {path} were altered or shortened",
        expected="an unbroken hash chain up to its anchor",
        found=found,
        remedy="restore the newest copy together with its .head file, and find out who wrote to it",
    )


def cannot_write(path: Path, error: OSError) -> SmrfedError:
    """The error for a record that cannot be kept: SMR-E327."""
    return SmrfedError(
        "SMR-E327",
        f"a receipt cannot be written to {path}",
        found=error,
        remedy="free disk space or correct the permissions; nothing leaves without a receipt",
    )
