"""Everything that a site makes of a block's secret: keys, seeds, shares."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from shared_model.secure_aggregation.block import Block
from shared_model.secure_aggregation.derivation import derive
from shared_model.secure_aggregation.keys import agree, private_key, public_bytes
from shared_model.secure_aggregation.messages import KeyAdvertisement
from shared_model.secure_aggregation.shamir import coefficients, share_at
from shared_model.secure_aggregation.signed import require_member


class SiteKeys:
    """A pure function of block, site and ``secret``: 32 bytes of OS entropy that the site stores
    owner-only before its first answer, uses for one block, and never shows.

    The same secret gives the same bytes after a restart. Raises SMR-E130 when the plan has no such
    site.
    """

    def __init__(self, block: Block, site: str, secret: bytes) -> None:
        require_member(site, block)
        self.block, self.site, self._secret = block, site, secret

    def share_key(self) -> X25519PrivateKey:
        """For the encryption of shares, one per block."""
        return private_key(self._derive("share key"))

    def mask_key(self, round_number: int) -> X25519PrivateKey:
        """For the pairwise masks of one round."""
        return private_key(self._mask_secret(round_number))

    def self_seed(self, round_number: int) -> bytes:
        """Of the site's own mask of one round: 32 bytes."""
        self.block.index(round_number)
        return self._derive("self seed", round_number)

    def advertisement(self) -> KeyAdvertisement:
        """The public halves, for the ``keys`` reply."""
        first = self.block.first_round
        rounds = range(first, first + self.block.rounds)
        return KeyAdvertisement(
            share_key=public_bytes(self.share_key()),
            mask_keys=tuple(public_bytes(self.mask_key(number)) for number in rounds),
            commitments=tuple(commitment(self.self_seed(number)) for number in rounds),
        )

    def shares(self, round_number: int, points: tuple[int, ...]) -> dict[int, tuple[bytes, bytes]]:
        """Point -> share of the self-mask seed and share of the mask key, of one round."""
        secrets = self.self_seed(round_number), self._mask_secret(round_number)
        polynomials = [
            coefficients(
                secret,
                self.block.threshold,
                self._derive("shamir seed", round_number, which),
                self.block,
                self.site,
                round_number,
                which,
            )
            for which, secret in enumerate(secrets)
        ]
        return {
            point: (share_at(polynomials[0], point), share_at(polynomials[1], point))
            for point in points
        }

    def _mask_secret(self, round_number: int) -> bytes:
        self.block.index(round_number)
        return self._derive("mask key", round_number)

    def _derive(self, purpose: str, *fields: int) -> bytes:
        return derive(self._secret, self.block, purpose, self.site, *fields)


def commitment(seed: bytes) -> bytes:
    """What a site publishes of a self-mask seed: it hides 32 random bytes and fits no others."""
    return hashlib.sha256(b"smrfed-self-mask-v1\0" + seed).digest()


def self_mask(seed: bytes, block: Block, round_number: int, site: str) -> bytes:
    """The keystream's seed of a site's own mask."""
    return derive(seed, block, "self mask", round_number, site)


def pair_mask(
    own: X25519PrivateKey, own_site: str, peer: bytes, peer_site: str, block: Block, number: int
) -> bytes:
    """The keystream's seed of two sites' mask of a round: both make the same one.

    The site whose name comes first adds the stream, the other takes it off
    (:func:`takes_off`), so that it is not in the sum of both.
    """
    ends = sorted(((own_site, public_bytes(own)), (peer_site, peer)))
    fields = [part for end in ends for part in end]
    return derive(agree(own, peer), block, "pair mask", number, *fields)


def takes_off(site: str, peer: str) -> bool:
    """Whether ``site`` subtracts the mask that it shares with ``peer``."""
    return site > peer
