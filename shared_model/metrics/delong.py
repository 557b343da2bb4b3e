"""DeLong's interval for an AUC and for the difference of two AUCs on the same patients.

DeLong, DeLong and Clarke-Pearson 1988, by midranks as in Sun and Xu 2014: ``O(N log N)``.
A cross-check of the bootstrap that draws nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from shared_model.metrics.arrays import Bools, Floats, Ints
from shared_model.metrics.bootstrap import Interval


@dataclass(frozen=True)
class AucDifference:
    """AUC of one score minus that of another, with its interval and two-sided p value."""

    interval: Interval
    p_value: float


def delong(positive: Bools, scores: npt.ArrayLike) -> tuple[Floats, Floats]:
    """AUCs ``(M,)`` of M scores ``(M, N)`` for the same patients, and their covariance ``(M, M)``.

    All NaN with no patient of one kind; the covariance is NaN with fewer than two of one kind.
    """
    s = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    positive = np.asarray(positive, dtype=bool)
    m, n = int(positive.sum()), int((~positive).sum())
    if m == 0 or n == 0:
        return np.full(len(s), np.nan), np.full((len(s), len(s)), np.nan)
    above = np.empty((len(s), m))  # share of the negatives below each positive
    below = np.empty((len(s), n))  # share of the positives above each negative
    for k, row in enumerate(s):
        ranks = _midranks(row)
        above[k] = (ranks[positive] - _midranks(row[positive])) / n
        below[k] = 1 - (ranks[~positive] - _midranks(row[~positive])) / m
    areas = above.mean(1)
    if m < 2 or n < 2:
        return areas, np.full((len(s), len(s)), np.nan)
    covariance = np.atleast_2d(np.cov(above)) / m + np.atleast_2d(np.cov(below)) / n
    return areas, covariance


def delong_interval(positive: Bools, score: Floats, confidence: float = 0.95) -> Interval:
    """AUC of a score ``(N,)`` with its normal interval, cut to 0..1.

    The ends are NaN with fewer than two patients of a kind, and where the estimated variance is
    nought (a perfect ranking: the method says nothing then).
    """
    areas, covariance = delong(positive, score)
    return _normal(float(areas[0]), float(covariance[0, 0]), confidence, 0.0, 1.0)


def delong_intervals(y: Ints, p: Floats, confidence: float = 0.95) -> tuple[Interval, ...]:
    """C intervals: each class against the rest."""
    return tuple(delong_interval(y == c, p[:, c], confidence) for c in range(p.shape[1]))


def delong_difference(
    positive: Bools, score: Floats, other: Floats, confidence: float = 0.95
) -> AucDifference:
    """AUC of ``score`` minus that of ``other`` for the same patients, both ``(N,)``.

    Ends and p value are NaN where the difference has no estimated variance (equal rankings too).
    """
    areas, c = delong(positive, np.stack([score, other]))
    variance = float(c[0, 0] + c[1, 1] - 2 * c[0, 1])
    difference = float(areas[0] - areas[1])
    interval = _normal(difference, variance, confidence, -1.0, 1.0)
    if not np.isfinite(interval.low):
        return AucDifference(interval, float("nan"))
    z = abs(difference) / float(np.sqrt(variance))
    return AucDifference(interval, 2 * NormalDist().cdf(-z))


def _normal(
    estimate: float, variance: float, confidence: float, low: float, high: float
) -> Interval:
    if not np.isfinite(variance) or variance <= 1e-15:
        return Interval(estimate, float("nan"), float("nan"))
    half = NormalDist().inv_cdf((1 + confidence) / 2) * float(np.sqrt(variance))
    return Interval(estimate, max(low, estimate - half), min(high, estimate + half))


def _midranks(values: Floats) -> Floats:
    """Ranks from 1, tied values at the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    out: Floats = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return out
