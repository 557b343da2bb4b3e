"""The coordinator's side: what it collects and relays, and the sum that it opens.

It holds one vector of P numbers whatever the number of sites, and adds one reply at a time. It
learns the sum of the survivors' vectors, which sites those are, and no single site's vector.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import Integers, decode_integers, encode_integers
from shared_model.protocol.sealed import Sealed
from shared_model.secure_aggregation.block import Block
from shared_model.secure_aggregation.keys import private_key, public_bytes
from shared_model.secure_aggregation.masks import Mask, apply_masks
from shared_model.secure_aggregation.messages import (
    KeyAdvertisement,
    MaskedVector,
    MaskingOrder,
    UnmaskAnswer,
    UnmaskOrder,
    UnmaskQuestion,
    decode_shares,
    share_of_round,
)
from shared_model.secure_aggregation.recovery import recover
from shared_model.secure_aggregation.signed import (
    misplaced,
    pack,
    read_advertisement,
    require_confirmed,
)
from shared_model.secure_aggregation.site_keys import commitment, pair_mask, self_mask, takes_off


class BlockSetup:
    """The ``keys`` and ``shares`` replies of one block: public keys, and shares it cannot read."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self._packed: dict[str, bytes] = {}
        self._advertisements: dict[str, KeyAdvertisement] = {}
        self._shares: dict[str, Mapping[str, bytes]] = {}

    def add_advertisement(self, site: str, reply: Sealed) -> None:
        """Take a site's sealed ``keys`` reply, checked as every peer will check it.

        Raises SMR-E130 also for a second one, or one that comes after the first shares, since
        peers have shared with others by then; else as :func:`signed.read_advertisement`.
        """
        if site in self._packed or self._shares:
            raise misplaced(f"the keys of {site!r}", "one per site, before any shares", "another")
        self._advertisements[site] = read_advertisement(reply, site, self.block)
        self._packed[site] = pack(reply)

    def relayed(self) -> dict[str, bytes]:
        """What the ``shares`` question carries, the same for all sites."""
        return dict(self._packed)

    def add_shares(self, site: str, body: bytes) -> None:
        """Take a site's ``shares`` reply; raises SMR-E115, SMR-E119, SMR-E130."""
        if site not in self._packed or site in self._shares:
            raise misplaced(f"shares of {site!r}", "one reply per site that sent keys", "another")
        receivers = frozenset(self._packed) - {site}
        self._shares[site] = decode_shares(body, self.block, receivers)

    @property
    def sharers(self) -> tuple[str, ...]:
        """Sites that may take part in the block's rounds, sorted by name."""
        return tuple(sorted(self._shares))

    def advertisement(self, site: str) -> KeyAdvertisement:
        """A site's public keys."""
        return self._advertisements[site]

    def shares_for(self, receiver: str, round_number: int, order: UnmaskOrder) -> dict[str, bytes]:
        """Of every masker but the receiver, the 82 bytes that it encrypted for it and round."""
        return {
            sender: share_of_round(self._shares[sender][receiver], self.block, round_number)
            for sender in order.maskers
            if sender != receiver
        }


_CONFIRMATION = "confirmation"


class _Stage(enum.Enum):
    COLLECTING = 1
    UNMASKING = 2
    DONE = 3


class RoundSum:
    """One round's sum over ``numbers`` P of ``maskers``, from masked vectors to the open sum.

    Raises SMR-E137 when fewer sites than the plan's minimum can take part, SMR-E130 for a masker
    that did not share.
    """

    def __init__(
        self, setup: BlockSetup, round_number: int, maskers: tuple[str, ...], numbers: int
    ) -> None:
        self._setup, self._block, self._round = setup, setup.block, round_number
        self._block.index(round_number)
        strangers = sorted(set(maskers) - set(setup.sharers))
        if strangers:
            raise misplaced(f"{', '.join(strangers)} as maskers", setup.sharers, strangers)
        self._require_enough(maskers, "can mask their vectors")
        self.order = MaskingOrder(
            first_round=self._block.first_round, maskers=tuple(sorted(maskers))
        )
        self._sum = np.zeros(numbers, dtype=np.uint64)
        self._confirmations: dict[str, bytes] = {}
        self._answers: dict[str, UnmaskAnswer] = {}
        self._stage = _Stage.COLLECTING
        self.wrong_shares: tuple[str, ...] = ()

    @property
    def survivors(self) -> tuple[str, ...]:
        """Sites whose vectors are in the sum, sorted by name."""
        return tuple(sorted(self._confirmations))

    def add(self, site: str, body: bytes) -> None:
        """Add a ``train`` reply to the sum, or nothing when it raises.

        Raises SMR-E130 for a site that is no masker, was added, or comes after the survivors were
        told; SMR-E115, SMR-E119 (body) and SMR-E136 (masked for other sites).
        """
        late = self._stage is not _Stage.COLLECTING
        if late or site in self._confirmations or site not in self.order.maskers:
            found = "a reply after the survivors were told" if late else "another reply"
            raise misplaced(f"the vector of {site!r}", "one reply of every masker, in time", found)
        vector = MaskedVector.decode(body, self._sum.size)
        require_confirmed(self._block, self._round, self.order.maskers, site, vector.confirmation)
        np.add(self._sum, vector.masked, out=self._sum)
        self._confirmations[site] = vector.confirmation

    def collected(self) -> bytes:
        """What was added so far, for the coordinator's disk: still under all masks."""
        arrays: dict[str, Integers] = {"sum": self._sum}
        for site, confirmation in self._confirmations.items():
            arrays[f"{_CONFIRMATION}/{site}"] = np.frombuffer(confirmation, np.uint8)
        return encode_integers(arrays)

    def resume(self, collected: bytes) -> None:
        """Go on from :meth:`collected` of a sum of the same round and maskers; before any other."""
        if self._confirmations or self._stage is not _Stage.COLLECTING:
            raise ValueError("this sum has begun")
        arrays = decode_integers(collected)
        masked = arrays.pop("sum")
        if masked.shape != self._sum.shape or masked.dtype != np.uint64:
            raise ValueError(f"a sum of {masked.shape} {masked.dtype}")
        start = len(_CONFIRMATION) + 1
        self._confirmations = {name[start:]: value.tobytes() for name, value in arrays.items()}
        self._sum = np.array(masked, np.uint64)

    def close(self) -> UnmaskOrder:
        """No vector is added from here on: who survived. Raises SMR-E137: the round is void."""
        self._require_enough(self.survivors, "sent their vectors")
        if self._stage is _Stage.COLLECTING:
            self._stage = _Stage.UNMASKING
        return UnmaskOrder(**self.order.model_dump(), survivors=self.survivors)

    def question(self, site: str) -> UnmaskQuestion:
        """What a survivor needs to see before it helps to open the sum."""
        shares = self._setup.shares_for(site, self._round, self.close())
        return UnmaskQuestion(shares, dict(self._confirmations))

    def add_answer(self, site: str, body: bytes) -> None:
        """Take an ``unmask`` reply; raises SMR-E130 (no survivor, or a second), SMR-E115, E119."""
        if self._stage is not _Stage.UNMASKING or site in self._answers:
            raise misplaced(f"the shares of {site!r}", "one answer per survivor", "another")
        order = self.close()
        if site not in order.survivors:
            raise misplaced(f"the shares of {site!r}", order.survivors, site)
        self._answers[site] = UnmaskAnswer.decode(body, order)

    @property
    def ready(self) -> bool:
        """Whether enough sites answered for the sum to be opened."""
        return len(self._answers) >= self._block.threshold

    def open(self) -> npt.NDArray[np.int64]:
        """The survivors' sum (P,), in place of what was collected; once.

        Every secret is recovered and checked before any mask comes off. Raises SMR-E137 (too few
        survivors), SMR-E138 (too few shares), SMR-E139 (wrong shares), with nothing opened;
        :attr:`wrong_shares` names sites whose wrong shares were worked around.
        """
        order = self.close()
        if self._stage is not _Stage.UNMASKING:
            raise ValueError("this sum was opened before")
        apply_masks(self._sum, self._masks(order))
        self._stage = _Stage.DONE
        return self._sum.view(np.int64)

    def _masks(self, order: UnmaskOrder) -> list[Mask]:
        """What takes off the masks that are left in the sum."""
        block, number, index = self._block, self._round, self._block.index(self._round)
        wrong: set[str] = set()
        masks = []
        for site in order.survivors:
            promised = self._setup.advertisement(site).commitments[index]
            shares = _of(site, {name: a.self_shares for name, a in self._answers.items()})
            fits = functools.partial(_is_committed, promised)
            seed, liars = recover(shares, block, f"the own mask of {site!r}", fits)
            wrong.update(liars)
            masks.append(Mask(self_mask(seed, block, number, site), minus=True))
        for site in order.dropped:
            public = self._setup.advertisement(site).mask_keys[index]
            shares = _of(site, {name: a.key_shares for name, a in self._answers.items()})
            fits = functools.partial(_is_key_of, public)
            secret, liars = recover(shares, block, f"the mask key of {site!r}", fits)
            wrong.update(liars)
            key = private_key(secret)
            for peer in order.survivors:
                own = self._setup.advertisement(peer).mask_keys[index]
                seed = pair_mask(key, site, own, peer, block, number)
                masks.append(Mask(seed, minus=not takes_off(peer, site)))
        self.wrong_shares = tuple(sorted(wrong))
        return masks

    def _require_enough(self, sites: tuple[str, ...], did: str) -> None:
        if len(sites) < self._block.min_survivors:
            raise SmrfedError(
                "SMR-E137",
                f"round {self._round} is void: too few sites {did}",
                expected=f"at least {self._block.min_survivors}, the plan's minimum",
                found=f"{len(sites)}: {', '.join(sites)}"[:300],
                remedy="nothing was opened, the parameters stay, the next round follows; look at "
                "which sites dropped out",
            )


def _of(owner: str, answers: Mapping[str, Mapping[str, bytes]]) -> dict[str, bytes]:
    return {name: shares[owner] for name, shares in answers.items() if owner in shares}


def _is_committed(promised: bytes, seed: bytes) -> bool:
    return commitment(seed) == promised


def _is_key_of(public: bytes, secret: bytes) -> bool:
    return public_bytes(private_key(secret)) == public
