"""Randomness of patient sampling and noise: AES-256 in counter mode, keyed by the OS.

Sites draw patients and noise from it, the coordinator the noise of mode ``central``.
"""

from __future__ import annotations

import hashlib
import os
from typing import NoReturn, Protocol

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]


class WordStream(Protocol):
    """What exact samplers need of a source of randomness."""

    def words(self, count: int) -> Words:
        """``(count,)`` independent uniform 64-bit words."""
        ...


class RandomStream(Protocol):
    """What the training needs of a source of randomness."""

    def select(self, count: int, rate: float) -> npt.NDArray[np.intp]:
        """Indices out of ``count`` that each joined independently with probability ``rate``."""
        ...

    def normal(self, count: int) -> Floats:
        """``(count,)`` independent standard normals, float64."""
        ...


class _CounterStream:
    """Words, uniform and normal numbers from an AES-256-CTR key stream."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._cipher: CipherContext = Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor()

    def words(self, count: int) -> Words:
        """``(count,)`` independent uniform 64-bit words."""
        return np.frombuffer(self._cipher.update(bytes(8 * count)), np.dtype("<u8"))

    def uniform(self, count: int) -> Floats:
        """``(count,)`` numbers in (0, 1] on the grid 2^-53."""
        words = self.words(count)
        numbers: Floats = ((words >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53
        return numbers

    def select(self, count: int, rate: float) -> npt.NDArray[np.intp]:
        """Indices out of ``count`` that each joined independently with probability ``rate``."""
        return np.flatnonzero(self.uniform(count) <= rate)

    def normal(self, count: int) -> Floats:
        """``(count,)`` standard normals by Box and Muller, float64, at most 8.6 in size."""
        half = (count + 1) // 2
        uniform = self.uniform(2 * half)
        radius = np.sqrt(-2.0 * np.log(uniform[:half]))
        angle = 2.0 * np.pi * uniform[half:]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


class SecureRandom(_CounterStream):
    """The only randomness of the private modes; nobody can seed, store or repeat it.

    Key and nonce come from ``os.urandom`` when the object is made, and again in a forked child, so
    that two processes never share a stream. ``torch.manual_seed`` and its kind have no effect.
    """

    def __init__(self) -> None:
        super().__init__(os.urandom(32), os.urandom(16))
        self._process = os.getpid()

    def words(self, count: int) -> Words:
        """``(count,)`` independent uniform 64-bit words."""
        if os.getpid() != self._process:
            super().__init__(os.urandom(32), os.urandom(16))
            self._process = os.getpid()
        return super().words(count)

    def __reduce__(self) -> NoReturn:
        raise TypeError("the stream of the privacy noise must not be copied or stored")


class SeededRandom(_CounterStream):
    """The same interface from public values, for privacy mode ``none`` only.

    Equal ``parts`` give equal streams on every machine; there is no state outside the object.
    """

    def __init__(self, *parts: str | int) -> None:
        text = "\0".join(("smrfed-seeded-v1", *map(str, parts)))
        digest = hashlib.sha512(text.encode()).digest()
        super().__init__(digest[:32], digest[32:48])
