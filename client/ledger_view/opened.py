"""The ledger as a command reads it: held against the receipts, and never made by looking at it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.agent.state import StateFolder
from client.egress.receipts import Receipt, Receipts
from client.privacy.ledger import Ledger
from client.privacy.witness import require_charged


@contextmanager
def opened_ledger(state: StateFolder, max_epsilon: float) -> Iterator[Ledger]:
    """The ledger, verified by itself and against the receipts; where none is yet, an empty one.

    A ledger that is gone while its anchor or key is there was lost: SMR-E303, not an empty one.
    Raises as :class:`Ledger`, and SMR-E353 for a release that it has not charged.
    """
    with tempfile.TemporaryDirectory() as nowhere:
        begun = any(state.ledger.parent.glob(f"{state.ledger.name}*"))
        path = state.ledger if begun else Path(nowhere) / state.ledger.name
        ledger = Ledger(path, max_epsilon)
        require_charged(ledger, kept_receipts(state))
        yield ledger


def kept_receipts(state: StateFolder) -> tuple[Receipt, ...]:
    """All receipts, verified; none where no decision was made yet."""
    return Receipts(state.receipts).read() if state.receipts.exists() else ()
