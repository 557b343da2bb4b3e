"""Both sides of one run: what left this hospital, and what the coordinator says it received."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from client.egress.receipts import Receipt
from shared_model.protocol.acknowledgement import Acknowledgement
from shared_model.protocol.statement import Statement

What = Literal["never received", "never sent", "another reply", "taken back", "refused there"]
_Place = tuple[int, str]


@dataclass(frozen=True)
class Difference:
    """One round and kind of the run on which the two sides do not agree, or should be told of."""

    what: What
    round: int
    kind: str
    sent: str | None
    received: str | None
    code: str | None = None

    @property
    def is_conflict(self) -> bool:
        """Whether the records contradict each other; a refused reply is merely worth knowing."""
        return self.what != "refused there"


def reconcile(
    site: str,
    receipts: Iterable[Receipt],
    acknowledged: Iterable[Acknowledgement],
    statement: Statement,
) -> tuple[Difference, ...]:
    """Every difference for the statement's run, in the order of the rounds.

    ``never received``: it left and the coordinator has no receipt. ``never sent``: the coordinator
    has a receipt of what this site did not release. ``another reply``: both have one, of other
    bytes. ``taken back``: the coordinator signed for it before and now does not mention it.
    ``refused there``: it was received and not accepted. A reply whose receipt here was written
    twice, because a crash came between receipt and reply, counts as sent once.
    """
    sent: dict[_Place, list[str]] = {}
    for decision in (receipt.decision for receipt in receipts):
        if decision.released and decision.run_id == statement.run_id:
            sent.setdefault((decision.round, decision.kind), []).append(decision.reply_sha256)
    theirs = [r for r in statement.received if r.site == site and r.run_id == statement.run_id]
    out = []
    for place, digests in sent.items():
        if not any((r.round, r.kind) == place for r in theirs):
            out.append(Difference("never received", *place, digests[-1], None))
    for received in theirs:
        place = received.round, received.kind
        mine = sent.get(place)
        if mine is not None and received.reply_sha256 in mine:
            if not received.accepted:
                digest = received.reply_sha256
                out.append(Difference("refused there", *place, digest, digest, received.code))
        else:
            last = None if mine is None else mine[-1]
            what: What = "never sent" if mine is None else "another reply"
            out.append(Difference(what, *place, last, received.reply_sha256, received.code))
    claimed = {(r.round, r.kind, r.reply_sha256) for r in theirs}
    for said in acknowledged:
        key = said.round, said.kind, said.reply_sha256
        if said.run_id == statement.run_id and key not in claimed:
            out.append(Difference("taken back", said.round, said.kind, said.reply_sha256, None))
    return tuple(sorted(out, key=lambda d: (d.round, d.kind, d.what)))
