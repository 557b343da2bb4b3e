"""Runs that differ in their noise only: which of them a bootstrap draw takes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def mean_over_repeats(
    values: Floats, rng: np.random.Generator, *, unbiased: bool = False
) -> Floats:
    """``(R, D, ...)`` values of R repeats over D draws to ``(D, ...)`` means of resampled repeats.

    Every draw takes R repeats with replacement: the noise is resampled as the patients are. With
    one repeat nothing varies; few of them understate the variance by ``(R - 1) / R``, unless
    ``unbiased`` takes R - 1 of them.
    """
    repeats, draws = values.shape[:2]
    taking = max(repeats - 1, 1) if unbiased else repeats
    chosen = rng.integers(0, repeats, (draws, taking))
    taken: Floats = values[chosen, np.arange(draws)[:, None]]
    out: Floats = taken.mean(axis=1)
    return out
