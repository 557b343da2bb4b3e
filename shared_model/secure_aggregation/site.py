"""A site's side of a block: what it answers to ``shares``, ``train`` and ``unmask``, and refuses.

Pure functions of the block's secret and of what was received; the agent keeps the secret, the body
of the ``shares`` question, and the rule that a question is answered once and for ever. That rule
carries the security: a site that answered two ``unmask`` questions of one round would open both.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared_model.errors import SmrfedError
from shared_model.secure_aggregation.block import Block
from shared_model.secure_aggregation.encryption import ShareCipher
from shared_model.secure_aggregation.keys import agree
from shared_model.secure_aggregation.masks import Mask, Vector, apply_masks, require_vector
from shared_model.secure_aggregation.messages import (
    KeyAdvertisement,
    MaskingOrder,
    UnmaskAnswer,
    UnmaskOrder,
    UnmaskQuestion,
)
from shared_model.secure_aggregation.shamir import ELEMENT_BYTES, read_share
from shared_model.secure_aggregation.signed import (
    confirm,
    misplaced,
    read_advertisement,
    require_confirmed,
    unpack,
)
from shared_model.secure_aggregation.site_keys import SiteKeys, pair_mask, self_mask, takes_off

_log = logging.getLogger(__name__)


class SiteSession:
    """One site in one block, from its keys and all sites' checked advertisements."""

    def __init__(self, keys: SiteKeys, advertisements: Mapping[str, KeyAdvertisement]) -> None:
        self._keys, self._advertisements = keys, advertisements
        self._block, self._site = keys.block, keys.site
        self._agreed = functools.lru_cache(maxsize=None)(self._agree)
        # Beside the agent's durable rule, which holds after a restart too.
        self._opened: dict[int, UnmaskOrder] = {}

    @classmethod
    def open(
        cls, block: Block, site: str, secret: bytes, relayed: Mapping[str, bytes]
    ) -> SiteSession:
        """From what a ``shares`` question relays: site -> its packed, sealed ``keys`` reply.

        Every peer's signature is checked against the accepted plan. Raises SMR-E132 for fewer sites
        than a sum must hold, SMR-E130 when this site's own keys are missing or are not those of
        ``secret``, and the errors of :func:`signed.read_advertisement` for any peer.
        """
        keys = SiteKeys(block, site, secret)
        if len(relayed) < block.min_survivors:
            raise SmrfedError(
                "SMR-E132",
                "too few sites agreed on keys for any sum of this block to be opened",
                expected=f"at least {block.min_survivors} sites",
                found=f"{len(relayed)}: {', '.join(sorted(relayed))}"[:300],
                remedy="wait until more sites are connected; the coordinator then begins a new "
                "block",
            )
        read = {
            name: read_advertisement(unpack(packed, block), name, block)
            for name, packed in relayed.items()
        }
        if read.get(site) != keys.advertisement():
            raise misplaced("this site's own advertisement", "the keys of its block secret", "none")
        return cls(keys, read)

    def require_order(self, round_number: int, order: MaskingOrder) -> None:
        """Raise SMR-E134 for an order that :meth:`mask` would refuse; before any work is done."""
        self._require_order(round_number, order)

    @property
    def sites(self) -> frozenset[str]:
        """Sites of which this one has an advertisement, itself included."""
        return frozenset(self._advertisements)

    def encrypted_shares(self) -> dict[str, bytes]:
        """Peer -> 82 bytes for every round of the block, for the ``shares`` reply."""
        block, peers = self._block, sorted(self.sites - {self._site})
        points = tuple(block.point(peer) for peer in peers)
        ciphers = {peer: self._cipher(self._site, peer) for peer in peers}
        out: dict[str, list[bytes]] = {peer: [] for peer in peers}
        for number in range(block.first_round, block.first_round + block.rounds):
            shares = self._keys.shares(number, points)
            for peer, point in zip(peers, points, strict=True):
                out[peer].append(ciphers[peer].encrypt(number, b"".join(shares[point])))
        return {peer: b"".join(parts) for peer, parts in out.items()}

    def mask(
        self, vector: Vector, round_number: int, order: MaskingOrder, key: Ed25519PrivateKey
    ) -> bytes:
        """Mask ``vector`` (P,) uint64 in place; returns the confirmation to send beside it.

        ``key`` is the site's signing key. Raises SMR-E134, with the vector as it was, when the
        order is for another block or round, leaves this site out, names a site whose keys it does
        not have, or fewer than a sum must hold.
        """
        require_vector(vector)
        self._require_order(round_number, order)
        block, site = self._block, self._site
        own = self._keys.mask_key(round_number)
        index = block.index(round_number)
        masks = [Mask(self_mask(self._keys.self_seed(round_number), block, round_number, site))]
        for peer in order.maskers:
            if peer != site:
                public = self._advertisements[peer].mask_keys[index]
                seed = pair_mask(own, site, public, peer, block, round_number)
                masks.append(Mask(seed, minus=takes_off(site, peer)))
        apply_masks(vector, masks)
        return confirm(block, round_number, order.maskers, site, key)

    def unmask(
        self, round_number: int, masked: MaskingOrder, order: UnmaskOrder, question: UnmaskQuestion
    ) -> UnmaskAnswer:
        """This site's shares of survivors' self-masks and dropped sites' mask keys, never of both.

        ``masked`` is the order that this site answered with its vector in this round. Raises
        SMR-E135 when the survivors are fewer than the plan's minimum, not within the maskers or
        without this site, the maskers are not those of ``masked``, or this session answered for
        another list of this round; SMR-E136 when a survivor did
        not confirm the same maskers. Shares that cannot be opened are left out, with a warning.
        """
        self._require_survivors(round_number, masked, order)
        self._require_order(round_number, order)
        for survivor in order.survivors:
            signature = question.confirmations.get(survivor, b"")
            require_confirmed(self._block, round_number, order.maskers, survivor, signature)
        self._opened[round_number] = order
        self_shares, key_shares = {}, {}
        for peer in order.maskers:
            pair = self._open(peer, round_number, question)
            if pair is None:
                continue
            if peer in order.survivors:
                self_shares[peer] = pair[:ELEMENT_BYTES]
            else:
                key_shares[peer] = pair[ELEMENT_BYTES:]
        return UnmaskAnswer(self_shares, key_shares)

    def _open(self, peer: str, number: int, question: UnmaskQuestion) -> bytes | None:
        if peer == self._site:
            point = self._block.point(peer)
            return b"".join(self._keys.shares(number, (point,))[point])
        try:
            sealed = question.shares.get(peer, b"")
            pair = self._cipher(peer, self._site).decrypt(number, sealed)
            for share in (pair[:ELEMENT_BYTES], pair[ELEMENT_BYTES:]):
                read_share(share)
        except SmrfedError as error:
            _log.warning("round %d: no share of %s: %s", number, peer, error.what)
            return None
        return pair

    def _cipher(self, sender: str, receiver: str) -> ShareCipher:
        peer = receiver if sender == self._site else sender
        return ShareCipher(self._agreed(peer), self._block, sender, receiver)

    def _agree(self, peer: str) -> bytes:
        return agree(self._keys.share_key(), self._advertisements[peer].share_key)

    def _require_order(self, round_number: int, order: MaskingOrder) -> None:
        block, maskers = self._block, frozenset(order.maskers)
        strangers = sorted(maskers - self.sites)
        problem = None
        if order.first_round != block.first_round or not block.holds(round_number):
            problem = f"round {round_number} with the keys of the block of {order.first_round}"
        elif self._site not in maskers:
            problem = "a list without this site"
        elif strangers:
            problem = f"sites whose keys it does not have: {', '.join(strangers)}"
        elif len(maskers) < block.min_survivors:
            problem = f"{len(maskers)} sites"
        if problem is not None:
            raise SmrfedError(
                "SMR-E134",
                f"{self._site!r} does not mask its vector for these sites",
                expected=f"a round of the block of {block.first_round} and at least "
                f"{block.min_survivors} sites that agreed on keys with it, itself included",
                found=problem[:300],
                remedy="nothing left this site; the coordinator must begin a new block, or name "
                "more sites",
            )

    def _require_survivors(
        self, round_number: int, masked: MaskingOrder, order: UnmaskOrder
    ) -> None:
        survivors, maskers = frozenset(order.survivors), frozenset(order.maskers)
        problem = None
        if (masked.first_round, masked.maskers) != (order.first_round, order.maskers):
            problem = "other maskers than those it masked its vector for"
        elif not survivors <= maskers:
            problem = f"survivors that masked nothing: {sorted(survivors - maskers)}"
        elif self._site not in survivors:
            problem = "survivors without this site"
        elif self._opened.get(round_number, order) != order:
            problem = f"a second list of survivors of round {round_number}"
        elif len(survivors) < self._block.min_survivors:
            problem = f"{len(survivors)} survivors"
        if problem is not None:
            raise SmrfedError(
                "SMR-E135",
                f"{self._site!r} does not help to open this sum",
                expected=f"at least {self._block.min_survivors} survivors, this site one of them, "
                "all within the sites that it masked its vector for",
                found=problem[:300],
                remedy="the round is void and nothing was shown; if the coordinator asks this "
                "again, ask its people why",
            )
