"""Keys and shares of a block of rounds: asked once, kept on disk, begun anew when that helps."""

from __future__ import annotations

from collections.abc import Callable

from server.checkpoints.mask_files import BlockFile, MaskFiles, as_bytes, as_text
from server.enrolment.members import Members
from server.rounds.asking import Asking, MaskTerms
from server.rounds.checks import check_metrics
from server.rounds.history import Exchanges, Later
from server.rounds.quorum import Quorum
from server.rounds.records import RoundRecord
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import encode_arrays
from shared_model.protocol.messages import RoundReply
from shared_model.protocol.sealed import Sealed
from shared_model.secure_aggregation.coordinator import BlockSetup
from shared_model.secure_aggregation.messages import encode_advertisements
from shared_model.secure_aggregation.plan_block import plan_block
from shared_model.secure_aggregation.signed import unpack

#: Rounds after which a block that lacks a hospital is replaced, so that it can come back.
ASK_AGAIN = 3
# What a site says that has lost its keys, or never had them.
_WITHOUT_KEYS = ("SMR-E455", "SMR-E134")


class MaskSetup:
    """Finds or agrees on the block that a round uses.

    A new block begins where there is none, the last one is over, the round before was void, a
    hospital lost its keys, fewer than ``min_survivors`` of its hospitals are left, or one is
    missing in it and :data:`ASK_AGAIN` rounds have passed.
    """

    def __init__(
        self, plan: FederationPlan, run_id: str, files: MaskFiles, asking: Asking, members: Members
    ) -> None:
        self._plan, self._run_id = plan, run_id
        self._files, self._asking, self._members = files, asking, members

    def block_of(
        self,
        number: int,
        history: Exchanges,
        previous: RoundRecord | None,
        asked: Callable[[RoundRecord], None],
    ) -> BlockSetup:
        """The set-up for a round, perhaps with too few sites; raises SMR-E564 and SMR-E534.

        ``previous``: the record of the round before. ``asked`` is called with the record of each
        exchange that belongs to this round, also when a killed process made it.
        """
        order = self._files.order(number)
        if order is not None:
            file = self._files.block(order.first_round)
        else:
            file = self._files.block(number)
            last = self._files.last_block()
            if file is None and last is not None and self._serves(last, number, previous):
                file = last
        if file is None:
            # Known on disk before the first question: a site that answers it forgets older keys.
            file = BlockFile(first_round=number)
            self._files.save_block(file)
        if file.first_round != number:
            return self._restored(file)
        return self._agreed(file, history, asked)

    def _serves(self, file: BlockFile, number: int, previous: RoundRecord | None) -> bool:
        first = file.first_round
        if first > number or not plan_block(self._plan, self._run_id, first).holds(number):
            return False
        if file.shared is None or previous is None or previous.void is not None:
            return False
        if any(code in why for why in previous.set_aside.values() for code in _WITHOUT_KEYS):
            return False
        members = set(self._members.sites)
        if len(members & file.shares.keys()) < self._quorum.sites:
            return False
        return members <= file.shares.keys() or number - first < ASK_AGAIN

    def _agreed(
        self,
        file: BlockFile,
        history: Exchanges,
        asked: Callable[[RoundRecord], None],
    ) -> BlockSetup:
        number = file.first_round
        setup = BlockSetup(plan_block(self._plan, self._run_id, number))
        if file.asked is None:

            def take_keys(header: RoundReply, reply: Sealed) -> dict[str, float]:
                self._members.require(header.site)
                setup.add_advertisement(header.site, reply)
                return check_metrics(header, self._plan.privacy.mode)

            sealed = MaskTerms(self._quorum, accept_sealed=take_keys)
            sites, body = self._members.sites, encode_arrays({})
            record = self._asking.ask("keys", number, body, sites, history, _nothing, terms=sealed)
            keys = as_text(setup.relayed())
            file = file.model_copy(update={"asked": record, "keys": keys})
            self._files.save_block(file)
        else:
            self._take_keys(setup, file)
        assert file.asked is not None
        asked(file.asked)
        relayed = setup.relayed()
        if len(relayed) < self._quorum.sites:
            return setup
        if file.shared is None:

            def take_shares(header: RoundReply, body: bytes) -> dict[str, float]:
                self._members.require(header.site)
                setup.add_shares(header.site, body)
                bodies[header.site] = body
                return check_metrics(header, self._plan.privacy.mode)

            bodies: dict[str, bytes] = {}
            body = encode_advertisements(relayed)
            sites = tuple(site for site in self._members.sites if site in relayed)
            known = Later(history, (file.asked,))
            record = self._asking.ask(
                "shares", number, body, sites, known, take_shares, terms=MaskTerms(self._quorum)
            )
            file = file.model_copy(update={"shared": record, "shares": as_text(bodies)})
            self._files.save_block(file)
        else:
            self._take_shares(setup, file)
        assert file.shared is not None
        asked(file.shared)
        return setup

    def _restored(self, file: BlockFile) -> BlockSetup:
        setup = BlockSetup(plan_block(self._plan, self._run_id, file.first_round))
        self._take_keys(setup, file)
        self._take_shares(setup, file)
        return setup

    def _take_keys(self, setup: BlockSetup, file: BlockFile) -> None:
        for site, packed in as_bytes(file.keys).items():
            setup.add_advertisement(site, unpack(packed, setup.block))

    def _take_shares(self, setup: BlockSetup, file: BlockFile) -> None:
        for site, body in as_bytes(file.shares).items():
            setup.add_shares(site, body)

    @property
    def _quorum(self) -> Quorum:
        assert self._plan.secure_aggregation is not None
        return Quorum(self._plan.secure_aggregation.min_survivors)


def _nothing(header: RoundReply, body: bytes) -> dict[str, float]:
    raise ValueError("the whole reply is taken")
