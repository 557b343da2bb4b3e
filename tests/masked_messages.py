"""A valid message of every exchange of the secure aggregation, with what reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared_model.protocol.arrays import body_digest, decode_integers
from shared_model.protocol.sealed import SIGNATURE_BYTES, seal
from shared_model.secure_aggregation.block import Block
from shared_model.secure_aggregation.encryption import SEALED_BYTES
from shared_model.secure_aggregation.messages import (
    KeyAdvertisement,
    MaskedVector,
    MaskingOrder,
    UnmaskAnswer,
    UnmaskOrder,
    UnmaskQuestion,
    decode_advertisements,
    decode_shares,
    encode_advertisements,
    encode_shares,
)
from shared_model.secure_aggregation.shamir import ELEMENT_BYTES
from shared_model.secure_aggregation.signed import KeysReply, pack, read_advertisement, unpack
from shared_model.secure_aggregation.site_keys import SiteKeys

SITES = ("a", "b", "c")
NUMBERS = 6
MASKING = MaskingOrder(first_round=1, maskers=SITES)
UNMASKING = UnmaskOrder(first_round=1, maskers=SITES, survivors=("a", "b"))

_KEYS = {site: Ed25519PrivateKey.from_private_bytes(site.encode() * 32) for site in SITES}
BLOCK = Block(
    "run", "1" * 64, 1, 2,
    {site: key.public_key().public_bytes_raw() for site, key in _KEYS.items()}, 2, 2,
)  # fmt: skip


def advertisement(site: str) -> bytes:
    return SiteKeys(BLOCK, site, site.encode() * 32).advertisement().encode()


def relayed(site: str) -> bytes:
    body = advertisement(site)
    header = KeysReply(
        run_id=BLOCK.run_id, round=1, kind="keys", site=site, plan_digest=BLOCK.plan_digest,
        body_sha256=body_digest(body), instruction_sha256="2" * 64,
    )  # fmt: skip
    return pack(seal(header.canonical_json, body, _KEYS[site]))


def masked_decoders() -> dict[str, tuple[Callable[[bytes], Any], bytes]]:
    """Exchange -> the decoder of a body, and a valid body."""
    others = ("b", "c")
    shares = dict.fromkeys(others, bytes(SEALED_BYTES))
    said = dict.fromkeys(UNMASKING.survivors, bytes(SIGNATURE_BYTES))
    share = bytes(ELEMENT_BYTES)
    return {
        "integers": (decode_integers, advertisement("a")),
        "keys": (lambda b: KeyAdvertisement.decode(b, BLOCK, "a"), advertisement("a")),
        "relayed keys": (lambda b: read_advertisement(unpack(b, BLOCK), "a", BLOCK), relayed("a")),
        "all keys": (
            lambda b: decode_advertisements(b, BLOCK),
            encode_advertisements({site: relayed(site) for site in SITES}),
        ),
        "shares": (
            lambda b: decode_shares(b, BLOCK, frozenset(others)),
            encode_shares(dict.fromkeys(others, bytes(SEALED_BYTES * BLOCK.rounds))),
        ),
        "vector": (
            lambda b: MaskedVector.decode(b, NUMBERS),
            MaskedVector(np.arange(NUMBERS, dtype=np.uint64), bytes(SIGNATURE_BYTES)).encode(),
        ),
        "unmask question": (
            lambda b: UnmaskQuestion.decode(b, UNMASKING, "a"),
            UnmaskQuestion(shares, said).encode(),
        ),
        "unmask answer": (
            lambda b: UnmaskAnswer.decode(b, UNMASKING),
            UnmaskAnswer({"a": share, "b": share}, {"c": share}).encode(),
        ),
    }
