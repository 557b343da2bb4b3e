"""Shamir's secret sharing of 32-byte secrets over the prime field of 2**256 + 297 elements.

Any ``threshold`` shares give the secret by interpolation at 0; any fewer are uniform whatever the
secret is (Shamir 1979), as long as the coefficients are: here they come from HKDF, so that a
restarted site gives the same shares. The arithmetic is Python's and takes a time that depends on
the numbers: nobody but the site itself may be able to measure it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from shared_model.errors import SmrfedError
from shared_model.secure_aggregation.block import Block, Field
from shared_model.secure_aggregation.derivation import SECRET_BYTES, derive

#: The smallest prime above 2**256, so that every 32-byte secret is an element.
PRIME = 2**256 + 297
ELEMENT_BYTES = 33
# 16 bytes more than an element: reduced modulo PRIME they are uniform to within 2**-127.
_WIDE_BYTES = 48


def coefficients(
    secret: bytes, threshold: int, seed: bytes, block: Block, *fields: Field
) -> tuple[int, ...]:
    """The polynomial of degree ``threshold - 1`` through ``(0, secret)`` that ``seed`` names."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret of {len(secret)} bytes, not {SECRET_BYTES}")
    length = _WIDE_BYTES * (threshold - 1)
    wide = derive(seed, block, "shamir coefficients", *fields, length=length)
    rest = (
        int.from_bytes(wide[at : at + _WIDE_BYTES], "big") % PRIME
        for at in range(0, len(wide), _WIDE_BYTES)
    )
    return (int.from_bytes(secret, "big"), *rest)


def share_at(polynomial: Sequence[int], point: int) -> bytes:
    """The 33-byte share at a point, which is not 0: there lies the secret."""
    _require_points((point,))
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * point + coefficient) % PRIME
    return value.to_bytes(ELEMENT_BYTES, "big")


def read_share(share: bytes) -> int:
    """A share that a peer sent, as an element; raises SMR-E133 for any other bytes."""
    value = int.from_bytes(share, "big")
    if len(share) != ELEMENT_BYTES or value >= PRIME:
        raise SmrfedError(
            "SMR-E133",
            "a share of a secret is not one",
            expected=f"an element of the field, {ELEMENT_BYTES} bytes",
            found=f"{len(share)} bytes" if len(share) != ELEMENT_BYTES else "a larger number",
            remedy="the sender is broken or lies: look at its version, then ask its people",
        )
    return value


def value_at(shares: Mapping[int, int], point: int) -> int:
    """The polynomial of least degree through ``shares`` (point -> element), at ``point``."""
    weights = _lagrange(tuple(sorted(shares)), point)
    return sum(w * shares[at] for at, w in weights) % PRIME


def reconstruct(shares: Mapping[int, int]) -> bytes | None:
    """The secret of just as many shares as the threshold; None when they are not of a secret."""
    value = value_at(shares, 0)
    return value.to_bytes(SECRET_BYTES, "big") if value < 2 ** (8 * SECRET_BYTES) else None


@functools.lru_cache(maxsize=4096)
def _lagrange(points: tuple[int, ...], target: int) -> tuple[tuple[int, int], ...]:
    _require_points(points)
    out = []
    for i in points:
        above, below = 1, 1
        for j in points:
            if j != i:
                above = above * (target - j) % PRIME
                below = below * (i - j) % PRIME
        out.append((i, above * pow(below, -1, PRIME) % PRIME))
    return tuple(out)


def _require_points(points: Sequence[int]) -> None:
    if any(not 0 < point < 2**16 for point in points) or len(set(points)) < len(points):
        raise ValueError(f"points must be distinct and from 1 on: {points}")
