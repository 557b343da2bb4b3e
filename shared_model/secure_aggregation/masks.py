"""Masks: an AES-256-CTR keystream read as uint64, added to a vector modulo 2**64 in place.

The vector is flat, one for all parameters (:mod:`shared_model.secure_aggregation.layout`), so that
one seed gives one keystream and no offset can be used twice. Memory beside the vector: 1 MiB.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

Vector = npt.NDArray[np.uint64]

_CHUNK = 1 << 16  # numbers: 512 KiB, which with its keystream stays in a core's cache
_ZEROS = bytes(8 * _CHUNK)
_BLOCK_BYTES = 16
# Every seed expands to one keystream only, so the counter may always begin at zero.
_FROM_ZERO = bytes(_BLOCK_BYTES)


@dataclass(frozen=True)
class Mask:
    """The keystream of a 32-byte ``seed``, added, or taken off where ``minus``."""

    seed: bytes
    minus: bool = False


def apply_masks(vector: Vector, masks: Sequence[Mask]) -> None:
    """Apply every mask to ``vector`` (P,) modulo 2**64, piece by piece, all masks to each piece.

    Raises ValueError, with the vector as it was, when it is not flat, contiguous, writable uint64.
    """
    require_vector(vector)
    streams = [
        (Cipher(AES256(mask.seed), CTR(_FROM_ZERO)).encryptor(), mask.minus) for mask in masks
    ]
    buffer = bytearray(len(_ZEROS) + _BLOCK_BYTES)
    for start in range(0, vector.size, _CHUNK):
        piece = vector[start : start + _CHUNK]
        for stream, minus in streams:
            stream.update_into(memoryview(_ZEROS)[: 8 * piece.size], buffer)
            operation = np.subtract if minus else np.add
            operation(piece, _numbers(buffer, piece.size), out=piece)


def require_vector(vector: Vector) -> None:
    """Raise ValueError when the vector is not flat, contiguous, writable uint64."""
    good = vector.ndim == 1 and vector.dtype == np.uint64
    if not (good and vector.flags.c_contiguous and vector.flags.writeable):
        raise ValueError(f"not a flat uint64 vector of one's own: {vector.dtype} {vector.shape}")


def _numbers(buffer: bytearray, count: int) -> Vector:
    numbers = np.frombuffer(buffer, dtype=np.uint64, count=count)
    return numbers if sys.byteorder == "little" else numbers.byteswap()
