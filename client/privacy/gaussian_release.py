"""The Gaussian mechanism for sums over patients: bound each, add, noise once, round to a grid.

Guarantee: with noise multiplier ``z > 0`` one call of :func:`release_sum` is one use of the
(unsampled) Gaussian mechanism with that multiplier, under add-or-remove-one-patient; what it
returns may be released. Assumes that each row depends on one patient alone, that a patient has at
most one row, and that ``random`` is a fresh, unseeded stream. Limit: noise drawn in float64 and
rounded to a grid is not the exact discrete Gaussian; the deviation of a float64 Box-Muller normal
from the ideal one is not part of delta.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from shared_model.privacy.secure_random import RandomStream

Floats = npt.NDArray[np.float64]

# The noised sum is rounded to a grid of about its standard deviation / 1024: the low-order bits,
# which would tell floating-point sums apart, are gone (Mironov 2012; "interval refining", Haney et
# al. 2022).
GRID_BITS = 10
# One patient's row, and what sums in another order could add, stay below the sensitivity of one.
_BOUND = 1 - 1e-9


def noise_grid(standard_deviation: float) -> float:
    """The power of two to whose multiples a sum with this noise is rounded."""
    return 2.0 ** (math.floor(math.log2(standard_deviation)) - GRID_BITS)


def release_sum(
    rows: Floats, noise_multiplier: float, random: RandomStream | None
) -> npt.NDArray[np.float32]:
    """``(V,)`` noised sum of the rows ``(N, V)``, each cut to L2 norm one; N may be zero.

    float64 until the grid; a multiple of it that is not beyond 2^14 standard deviations is exact in
    float32. A row that is not finite counts as zero. Without noise (privacy mode ``none``) the sum
    is exact and ``random`` is not used.
    """
    finite = np.isfinite(rows).all(axis=1, keepdims=True)
    rows = np.where(finite, rows, 0.0)
    with np.errstate(over="ignore"):  # a norm beyond float64 is infinite, and its row zero
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
    total = (rows * np.minimum(1.0, _BOUND / np.maximum(norms, 1e-300))).sum(axis=0)
    if noise_multiplier != 0:
        if random is None or not noise_multiplier > 0:
            raise ValueError("a private release needs noise and a source of it")
        grid = noise_grid(noise_multiplier)
        total = np.round((total + noise_multiplier * random.normal(total.size)) / grid) * grid
    out: npt.NDArray[np.float32] = total.astype(np.float32)
    return out
