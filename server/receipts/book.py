"""The coordinator's own receipts: one hash-chained line per reply, accepted or refused."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared_model.chain.lines import ChainedLines, Link
from shared_model.errors import SmrfedError
from shared_model.protocol.acknowledgement import Received

FILE = "receipts.jsonl"


class ReceivedLine(Link):
    """A reply at its place in the chain.

    Where ``authentic`` is false, the message was not the site's answer to what it was asked, and
    ``received`` says only where it came in.
    """

    received: Received
    authentic: bool
    bytes: int = Field(description="of header and body together")
    instruction_sha256: str


class ReceiptBook:
    """Every reply of one run, below its run directory; on the disk before the round goes on.

    The same reply, received again after a restart, is noted once.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / FILE
        self._lines = ChainedLines(self._path, ReceivedLine, self._altered)

    def note(
        self, received: Received, size: int, instruction_sha256: str, *, authentic: bool
    ) -> None:
        """Write a line; raises SMR-E560 (it cannot be written) and SMR-E561 (altered file)."""
        try:
            of_reply = self._lines.naming(received.reply_sha256)
            if any((line.received, line.authentic) == (received, authentic) for line in of_reply):
                return
            self._lines.append(
                {
                    "received": received.model_dump(mode="json"),
                    "authentic": authentic,
                    "bytes": size,
                    "instruction_sha256": instruction_sha256,
                }
            )
        except OSError as error:
            raise SmrfedError(
                "SMR-E560",
                f"the coordinator's receipt cannot be written to {self._path}",
                found=error,
                remedy="free disk space or correct the permissions, then resume: the sites give "
                "the same answers again",
            ) from error

    def read(self) -> tuple[ReceivedLine, ...]:
        """All lines, verified; raises SMR-E561 where the chain is broken."""
        return self._lines.read()

    def _altered(self, found: str) -> SmrfedError:
        return SmrfedError(
            "SMR-E561",
            f"the coordinator's receipts {self._path} were altered or shortened",
            expected="an unbroken hash chain up to its anchor",
            found=found,
            remedy="restore the newest copy together with its .head file, and find out who wrote "
            "to it",
        )
