"""Exact draws of the discrete Gaussian N_Z(0, s^2), the noise of sums of integers.

``P(X = x)`` is proportional to ``exp(-x^2 / (2 s^2))`` over all integers x (Canonne, Kamath and
Steinke 2020, "The discrete Gaussian for differential privacy"). Their sampler rejects from a
discrete Laplace distribution and keeps about 0.44 of its proposals; this one rejects from blocks of
equal probability and keeps 0.97: a block of s/32 to s/16 integers is chosen with the probability of
its end that is nearest to zero, then an integer in it, uniformly, which is kept with probability
``exp(-gamma)``, ``gamma = (x^2 - left^2) / (2 s^2)``.

Error: the total variation distance of one draw from N_Z(0, s^2) is below 2^-100. Integers beyond
16 s are never drawn (2^-183). Blocks are chosen by exact integer weights that add up to 2^128. A
draw is kept by comparing a 63-bit word with ``exp(-gamma)`` in float64 (off by less than 2^-49)
and, in the one case of about 2^47 in which that could decide wrongly, by 127 bits in decimal
arithmetic.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from shared_model.privacy.secure_random import WordStream

Integers = npt.NDArray[np.int64]

#: Where the distribution is cut, in standard deviations.
REACH = 16
#: The largest s: ``REACH * s`` and what :class:`DiscreteGaussian` computes stay exact.
LARGEST_DEVIATION = 2.0**48

_CHUNK = 1 << 16
_COLUMN_BITS = 9  # 512 columns hold 16 s in blocks of at least s/32
_WEIGHT_BITS = 128
_HIGH, _LOW = 64, _WEIGHT_BITS - _COLUMN_BITS - 64  # of a threshold within a column
_KEEP_BITS = 63
_DOUBT = 1 << (_KEEP_BITS - 48)  # around the float64 threshold; its error is below 2^-49
_DIGITS = 60


class DiscreteGaussian:
    """N_Z(0, s^2) with ``s^2 = variance``, vectorised; a few milliseconds per 100,000 numbers.

    Guarantee: independent draws, each within 2^-100 in total variation. Added to a sum of integer
    vectors that one patient (add or remove) moves by at most D in L2, noise with
    ``s^2 >= (sigma D)^2 + 16`` is as private as the Gaussian mechanism with noise multiplier sigma:
    :mod:`shared_model.privacy.summed_noise`. Assumes a fresh, unseeded stream. Limit: the number of
    words that a draw takes, and so its time, depends on the noise (not on any patient).

    Args:
        variance: s^2, taken as the exact value of the float; s at most 2^48.
        random: ``SecureRandom`` outside tests.
        doubt: half the width in which a comparison is repeated exactly; wider in tests.
    """

    def __init__(self, variance: float, random: WordStream, *, doubt: int = _DOUBT) -> None:
        if not 0 < variance <= LARGEST_DEVIATION**2:
            raise ValueError(f"variance must be in (0, {LARGEST_DEVIATION**2:g}]; found {variance}")
        self._random = random
        self._doubt = np.uint64(doubt)
        self._exact = Fraction(variance)
        self._scale = 0.5 / variance
        width = max(0, math.floor(math.log2(variance) / 2) - 4)
        self._width_bits = np.uint64(width)
        # At most 512, as 2^width is above s/32: up to the rounding of these two lines.
        blocks = min(math.ceil(REACH * math.sqrt(variance) / 2**width), 1 << _COLUMN_BITS)
        high, low, alias = _alias_table(_weights(blocks, 2**width, self._exact))
        self._high = np.array(high, np.uint64)
        self._low: list[int] = low
        self._alias = np.array(alias, np.int64)

    def draw(self, count: int) -> Integers:
        """``(count,)`` int64."""
        out = np.empty(count, np.int64)
        self.add_to(out, replace=True)
        return out

    def add_to(self, total: Integers, *, replace: bool = False) -> None:
        """Add a draw to every number of a flat vector, some at a time; wraps modulo 2^64."""
        done = 0
        while done < len(total):
            part = total[done : done + _CHUNK]
            found = self._proposed(int(len(part) * 1.04) + 32)[: len(part)]
            kept = part[: len(found)]
            kept[...] = found if replace else kept + found
            done += len(found)

    def _proposed(self, count: int) -> Integers:
        """Those of ``count`` proposals that are kept, in order: each an independent draw."""
        words = self._random.words(3 * count)
        first, chosen, keep = words[:count], words[count : 2 * count], words[2 * count :]
        column = (first >> np.uint64(64 - _COLUMN_BITS)).astype(np.int64)
        negative = (first >> np.uint64(63 - _COLUMN_BITS)) & np.uint64(1)
        one = np.uint64(1)
        offset = (first & ((one << self._width_bits) - one)).astype(np.int64)
        threshold = self._high[column]
        own = chosen < threshold
        for i in np.flatnonzero(chosen == threshold):
            own[i] = self._below_low_bits(int(column[i]))
        block = np.where(own, column, self._alias[column])
        left = block << int(self._width_bits)
        size = left + offset
        gamma = offset.astype(np.float64) * (left + size).astype(np.float64) * self._scale
        limit = np.ldexp(np.exp(-gamma), _KEEP_BITS).astype(np.uint64)
        word = keep >> one
        kept = word < limit
        # A difference below zero wraps to a large number: no doubt.
        for i in np.flatnonzero(word - limit + self._doubt <= self._doubt + self._doubt):
            kept[i] = self._kept_exactly(int(word[i]), int(left[i]), int(size[i]))
        # Zero has one sign only.
        kept &= (size != 0) | (negative == 0)
        return np.where(negative == 1, -size, size)[kept]

    def _below_low_bits(self, column: int) -> bool:
        """The comparison with a threshold of which the upper 64 bits were equal."""
        word = int(self._random.words(1)[0])
        return word >> (64 - _LOW) < self._low[column]

    def _kept_exactly(self, word: int, left: int, size: int) -> bool:
        """Whether 127 bits, of which ``word`` are the upper 63, are below ``exp(-gamma)``."""
        number = word << 64 | int(self._random.words(1)[0])
        with localcontext() as context:
            context.prec = _DIGITS
            limit = _exp((left * left - size * size) / (2 * self._exact))
            return bool(Decimal(number) < limit * 2 ** (_KEEP_BITS + 64))


def _exp(exponent: Fraction) -> Decimal:
    return (Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp()


def _weights(blocks: int, width: int, variance: Fraction) -> list[int]:
    """Integers that add up to 2^128, in proportion to the density at each block's left end."""
    with localcontext() as context:
        context.prec = _DIGITS
        density = [_exp(-Fraction((b * width) ** 2) / (2 * variance)) for b in range(blocks)]
        total = sum(density, Decimal(0))
        weights = [int(value / total * 2**_WEIGHT_BITS) for value in density]
    weights[0] += 2**_WEIGHT_BITS - sum(weights)
    return weights


def _alias_table(weights: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Walker's table over 512 columns of equal weight, exact: thresholds (high, low) and aliases.

    A number below a column's threshold, of 119 bits, means the column itself, otherwise its alias.
    """
    columns = 1 << _COLUMN_BITS
    share = 1 << (_HIGH + _LOW)
    left = weights + [0] * (columns - len(weights))
    small = [c for c in range(columns) if left[c] < share]
    large = [c for c in range(columns) if left[c] >= share]
    threshold, alias = [share - 1] * columns, list(range(columns))
    while small:
        column, giver = small.pop(), large[-1]
        threshold[column], alias[column] = left[column], giver
        left[giver] -= share - left[column]
        if left[giver] < share:
            small.append(large.pop())
    # What is left in `large` is full columns, whose alias is themselves.
    return [t >> _LOW for t in threshold], [t & ((1 << _LOW) - 1) for t in threshold], alias
