"""The bodies and header fields of the four exchanges; every decoder takes hostile bytes.

A body is safetensors of uint8 and uint64 arrays (:mod:`shared_model.protocol.arrays`) with just the
names and shapes that the block prescribes, in the one encoding that the encoder gives.

========== ========================================= ============================================
exchange   question body                             reply body
========== ========================================= ============================================
``keys``   empty                                     :class:`KeyAdvertisement`
``shares`` ``advertisement/SITE``: packed replies    ``share/RECEIVER``: M x 82 bytes
``train``  the parameters (float32)                  :class:`MaskedVector`
``unmask`` :class:`UnmaskQuestion`                   :class:`UnmaskAnswer`
========== ========================================= ============================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from shared_model.errors import SmrfedError
from shared_model.plan import SiteName
from shared_model.protocol.arrays import Integers, decode_integers, encode_integers
from shared_model.protocol.sealed import SIGNATURE_BYTES
from shared_model.secure_aggregation.block import MOST_SITES, Block
from shared_model.secure_aggregation.encryption import SEALED_BYTES
from shared_model.secure_aggregation.keys import KEY_BYTES, require_public
from shared_model.secure_aggregation.masks import Vector
from shared_model.secure_aggregation.shamir import ELEMENT_BYTES

_COMMITMENT_BYTES = 32
# Names, dtypes and offsets before the numbers, generously.
_ROOM_PER_ARRAY = 256
_ADVERTISEMENT, _SHARE, _CONFIRMATION = "advertisement", "share", "confirmation"
_SELF, _KEY = "self", "key"


class MaskingOrder(BaseModel):
    """In the header of a ``train`` question: which block's keys, and for which sites to mask."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_round: int = Field(ge=1, le=1_000_000, description="of the block whose keys are used")
    maskers: tuple[SiteName, ...] = Field(max_length=MOST_SITES, description="sorted by name")

    @field_validator("maskers")
    @classmethod
    def _once(cls, sites: tuple[str, ...]) -> tuple[str, ...]:
        return _sorted_once(sites)


class UnmaskOrder(MaskingOrder):
    """In the header of an ``unmask`` question: whose vectors the sum holds."""

    survivors: tuple[SiteName, ...] = Field(max_length=MOST_SITES, description="sorted by name")

    @field_validator("survivors")
    @classmethod
    def _survivors_once(cls, sites: tuple[str, ...]) -> tuple[str, ...]:
        return _sorted_once(sites)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Sites that the vectors are masked for and that the sum does not hold."""
        return tuple(site for site in self.maskers if site not in self.survivors)


@dataclass(frozen=True)
class KeyAdvertisement:
    """A site's public keys of a block of M rounds.

    ``share_key`` (32 bytes) for the encryption of shares; ``mask_keys`` one X25519 key per round;
    ``commitments`` per round SHA-256 of the self-mask seed, so that a wrong share shows.
    """

    share_key: bytes
    mask_keys: tuple[bytes, ...]
    commitments: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The body of a ``keys`` reply."""
        keys, promises = b"".join(self.mask_keys), b"".join(self.commitments)
        return _encode_bytes({"share_key": self.share_key, "mask_keys": keys, "seeds": promises})

    @classmethod
    def decode(cls, body: bytes, block: Block, site: str) -> Self:
        """Raises SMR-E115, SMR-E119 and, for a weak key, SMR-E131."""
        sizes = {
            "share_key": KEY_BYTES,
            "mask_keys": KEY_BYTES * block.rounds,
            "seeds": _COMMITMENT_BYTES * block.rounds,
        }
        found = _decode_bytes(body, sizes)
        keys = _pieces(found["mask_keys"], KEY_BYTES)
        for key in (found["share_key"], *keys):
            require_public(key, site)
        return cls(found["share_key"], keys, _pieces(found["seeds"], _COMMITMENT_BYTES))

    @staticmethod
    def body_bytes(block: Block) -> int:
        """The most that the body takes."""
        return _ROOM_PER_ARRAY * 4 + KEY_BYTES + block.rounds * (KEY_BYTES + _COMMITMENT_BYTES)


@dataclass(frozen=True)
class MaskedVector:
    """The body of a ``train`` reply: ``masked`` (P,) uint64, and the site's ``confirmation``."""

    masked: Vector
    confirmation: bytes

    def encode(self) -> bytes:
        """The body."""
        signature = np.frombuffer(self.confirmation, dtype=np.uint8)
        return encode_integers({"masked": self.masked, _CONFIRMATION: signature})

    @classmethod
    def decode(cls, body: bytes, numbers: int) -> Self:
        """A vector of just so many ``numbers``; raises SMR-E115 and SMR-E119."""
        _require_size(body, 8 * numbers + SIGNATURE_BYTES, 2)
        found = decode_integers(body)
        kinds = {name: (array.dtype.name, array.shape) for name, array in found.items()}
        meant = {"masked": ("uint64", (numbers,)), _CONFIRMATION: ("uint8", (SIGNATURE_BYTES,))}
        if kinds != meant:
            raise unexpected("a masked vector", meant, str(kinds)[:300])
        vector = np.asarray(found["masked"], dtype=np.uint64)
        return cls(vector, found[_CONFIRMATION].tobytes())


@dataclass(frozen=True)
class UnmaskQuestion:
    """The body of an ``unmask`` question to one site.

    ``shares``: of every masker but the site itself, its encrypted shares of this round (82 bytes).
    ``confirmations``: of every survivor (64 bytes). Which of them are meant, says the header.
    """

    shares: Mapping[str, bytes]
    confirmations: Mapping[str, bytes]

    def encode(self) -> bytes:
        """The body."""
        return _encode_bytes(
            _named(_SHARE, self.shares) | _named(_CONFIRMATION, self.confirmations)
        )

    @classmethod
    def decode(cls, body: bytes, order: UnmaskOrder, site: str) -> Self:
        """Raises SMR-E115 and SMR-E119 when these are not just the order's."""
        others = [name for name in order.maskers if name != site]
        sizes = {f"{_SHARE}/{name}": SEALED_BYTES for name in others}
        sizes |= {f"{_CONFIRMATION}/{name}": SIGNATURE_BYTES for name in order.survivors}
        found = _decode_bytes(body, sizes)
        return cls(_of(_SHARE, found), _of(_CONFIRMATION, found))


@dataclass(frozen=True)
class UnmaskAnswer:
    """The body of an ``unmask`` reply: the site's shares (33 bytes), as many as it could open.

    ``self_shares`` of survivors' self-mask seeds, ``key_shares`` of dropped sites' mask keys; no
    site is in both.
    """

    self_shares: Mapping[str, bytes]
    key_shares: Mapping[str, bytes]

    def encode(self) -> bytes:
        """The body."""
        return _encode_bytes(_named(_SELF, self.self_shares) | _named(_KEY, self.key_shares))

    @classmethod
    def decode(cls, body: bytes, order: UnmaskOrder) -> Self:
        """Raises SMR-E115 and SMR-E119 when it holds a share that the order does not ask for."""
        sizes = {f"{_SELF}/{name}": ELEMENT_BYTES for name in order.survivors}
        sizes |= {f"{_KEY}/{name}": ELEMENT_BYTES for name in order.dropped}
        found = _decode_bytes(body, sizes, all_of_them=False)
        return cls(_of(_SELF, found), _of(_KEY, found))


def encode_advertisements(packed: Mapping[str, bytes]) -> bytes:
    """The body of a ``shares`` question: site -> its packed, sealed ``keys`` reply."""
    return _encode_bytes(_named(_ADVERTISEMENT, packed))


def decode_advertisements(body: bytes, block: Block) -> dict[str, bytes]:
    """The same again, unchecked but for names and sizes; raises SMR-E115 and SMR-E119."""
    each = KeyAdvertisement.body_bytes(block) + 8192
    _require_size(body, each * len(block.sites), len(block.sites))
    sizes = {name: array.size for name, array in decode_integers(body).items()}
    known = {f"{_ADVERTISEMENT}/{site}" for site in block.sites}
    if not sizes.keys() <= known or any(size > each for size in sizes.values()):
        raise unexpected("the advertisements", sorted(known), str(sizes)[:300])
    return _of(_ADVERTISEMENT, _decode_bytes(body, sizes))


def encode_shares(shares: Mapping[str, bytes]) -> bytes:
    """The body of a ``shares`` reply: receiver -> 82 encrypted bytes of every round."""
    return _encode_bytes(_named(_SHARE, shares))


def decode_shares(body: bytes, block: Block, receivers: frozenset[str]) -> dict[str, bytes]:
    """The same again, for just these receivers; raises SMR-E115 and SMR-E119."""
    size = SEALED_BYTES * block.rounds
    return _of(_SHARE, _decode_bytes(body, {f"{_SHARE}/{name}": size for name in receivers}))


def share_of_round(shares: bytes, block: Block, round_number: int) -> bytes:
    """One round's 82 bytes of what a site encrypted for another."""
    return _pieces(shares, SEALED_BYTES)[block.index(round_number)]


def unexpected(what: str, expected: object, found: object) -> SmrfedError:
    """A body that is well-formed and holds something else than the exchange prescribes."""
    shown = f"{len(found)} bytes" if isinstance(found, bytes) else found
    return SmrfedError(
        "SMR-E119",
        f"{what} of the secure aggregation is not what the exchange prescribes",
        expected=str(expected)[:300],
        found=shown,
        remedy="check that all ends run the same smrfed version; if they do, refuse the sender",
    )


def _sorted_once(sites: tuple[str, ...]) -> tuple[str, ...]:
    if list(sites) != sorted(set(sites)):
        raise ValueError("sites must be sorted by name, each once")
    return sites


def _named(prefix: str, values: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{prefix}/{name}": value for name, value in values.items()}


def _of(prefix: str, values: Mapping[str, bytes]) -> dict[str, bytes]:
    start = len(prefix) + 1
    return {name[start:]: v for name, v in values.items() if name.startswith(f"{prefix}/")}


def _pieces(joined: bytes, size: int) -> tuple[bytes, ...]:
    return tuple(joined[at : at + size] for at in range(0, len(joined), size))


def _encode_bytes(values: Mapping[str, bytes]) -> bytes:
    arrays: dict[str, Integers] = {
        name: np.frombuffer(value, dtype=np.uint8) for name, value in values.items()
    }
    return encode_integers(arrays)


def _decode_bytes(
    body: bytes, sizes: Mapping[str, int], *, all_of_them: bool = True
) -> dict[str, bytes]:
    """uint8 arrays of these names and sizes and no others, in their one encoding."""
    _require_size(body, sum(sizes.values()), len(sizes))
    found = decode_integers(body)
    wrong = [
        f"{name[:60]}: {array.dtype} {array.shape}"
        for name, array in found.items()
        if array.dtype != np.uint8 or array.shape != (sizes.get(name),)
    ]
    missing = sorted(sizes.keys() - found.keys()) if all_of_them else []
    if wrong or missing:
        detail = f"not asked for: {wrong[:3]}; missing: {missing[:3]}"
        raise unexpected("a message", f"{len(sizes)} arrays of bytes", detail)
    values = {name: array.tobytes() for name, array in found.items()}
    if _encode_bytes(values) != body:
        raise unexpected("a message", "the one encoding of its content", "another spelling")
    return values


def _require_size(body: bytes, content: int, arrays: int) -> None:
    most = content + _ROOM_PER_ARRAY * (arrays + 1)
    if len(body) > most:
        raise unexpected("a message", f"at most {most} bytes", body)
