"""Shares under way: AES-256-GCM from one site to another, unreadable and unchangeable between.

The key comes from the X25519 agreement of the block's two share keys and is used in one direction,
for one message per round: the round is the nonce. A share is a function of the block's secret and
the receiver's place, so whatever the relay does a site never encrypts two texts under one nonce.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared_model.errors import SmrfedError
from shared_model.secure_aggregation.block import Block
from shared_model.secure_aggregation.derivation import derive
from shared_model.secure_aggregation.shamir import ELEMENT_BYTES

#: A share of a self-mask seed and one of a mask key.
PLAIN_BYTES = 2 * ELEMENT_BYTES
SEALED_BYTES = PLAIN_BYTES + 16


class ShareCipher:
    """What ``sender`` encrypts to ``receiver``: both make the same one from what they agreed on.

    ``agreed``: the X25519 secret (32 bytes) of their share keys.
    """

    def __init__(self, agreed: bytes, block: Block, sender: str, receiver: str) -> None:
        self._aead = AESGCM(derive(agreed, block, "share cipher", sender, receiver))
        self._block, self._sender, self._receiver = block, sender, receiver

    def encrypt(self, round_number: int, plain: bytes) -> bytes:
        """The 82 bytes of one round's two shares."""
        if len(plain) != PLAIN_BYTES:
            raise ValueError(f"two shares of {len(plain)} bytes")
        return self._aead.encrypt(_nonce(round_number), plain, self._binding(round_number))

    def decrypt(self, round_number: int, sealed: bytes) -> bytes:
        """Raises SMR-E133 when it is not what ``sender`` encrypted for this place and round."""
        try:
            if len(sealed) != SEALED_BYTES:
                raise InvalidTag
            return self._aead.decrypt(_nonce(round_number), sealed, self._binding(round_number))
        except InvalidTag:
            raise SmrfedError(
                "SMR-E133",
                f"the shares of {self._sender!r} for {self._receiver!r} cannot be opened",
                expected=f"{SEALED_BYTES} bytes that it encrypted for round {round_number}",
                found=f"{len(sealed)} bytes that it did not",
                remedy="the sum needs no single site's shares; if the same sender fails in every "
                "round, ask its people, then the coordinator's",
            ) from None

    def _binding(self, round_number: int) -> bytes:
        return self._block.context("shares", round_number, self._sender, self._receiver)


def _nonce(round_number: int) -> bytes:
    return round_number.to_bytes(12, "big")
