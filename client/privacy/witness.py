"""The receipts as a witness against the ledger: what left must have been charged."""

from __future__ import annotations

from collections.abc import Iterable

from client.egress.receipts import Receipt
from client.privacy.ledger import Ledger
from shared_model.errors import SmrfedError
from shared_model.protocol.messages import MASK_KINDS

#: What holds nothing about patients.
_COST_NOTHING = ("finalise", *MASK_KINDS)


def require_charged(ledger: Ledger, receipts: Iterable[Receipt]) -> None:
    """Raise SMR-E353 when a receipt shows a private release that the ledger has not charged.

    Ledger and anchor replaced together by an older copy, or removed together, are consistent in
    themselves; the receipts have their own chain and anchor, and remember. Limit: an older copy of
    the whole state folder looks like the past to both; then only the coordinator's
    acknowledgements, or an export of the ledger that is kept elsewhere, can tell.
    """
    charged = {(entry.run_id, entry.round, entry.purpose) for entry in ledger.entries()}
    for receipt in receipts:
        made = receipt.decision
        if not made.released or made.mode == "none" or made.kind in _COST_NOTHING:
            continue
        if (made.run_id, made.round, made.kind) not in charged:
            raise SmrfedError(
                "SMR-E353",
                "the receipts show a release that the privacy ledger has not charged",
                expected=f"a charge for round {made.round} ({made.kind}) of run {made.run_id}",
                found=f"receipt {receipt.number} of {receipt.time[:19]}, and no such charge: the "
                "ledger was replaced by an older copy, or removed",
                remedy="restore the newest copy of the ledger with its .head and .key files; "
                "without one, treat these patients' budget as spent",
            )
