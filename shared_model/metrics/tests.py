"""Tests of a difference: over sites, over folds, over bootstrap draws; and Holm's correction.

Sites (or seeds, or folds) are the unit here, patients only in the bootstrap p value. Needs scipy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

from shared_model.metrics.arrays import Floats


@dataclass(frozen=True)
class Outcome:
    """Statistic, two-sided p value, and how many differences went in; NaN below two."""

    statistic: float
    p_value: float
    n: int


def wilcoxon(differences: npt.ArrayLike) -> Outcome:
    """Signed-rank test that paired differences ``(K,)`` are symmetric about nought; exact.

    Zeros are dropped (Wilcoxon 1945), ties share their mean rank, and the distribution is counted
    over all sign patterns. The statistic is the smaller rank sum. NaN with fewer than two non-zero
    differences. With K sites p is never below ``2 / 2^K``: five sites cannot reach 0.05.
    """
    d = _finite(differences)
    d = d[d != 0]
    if len(d) < 2:
        return Outcome(float("nan"), float("nan"), len(d))
    size = np.abs(d)
    _, inverse, counts = np.unique(size, return_inverse=True, return_counts=True)
    # Twice the midranks are whole numbers, so the distribution is a table.
    doubled = np.rint(2 * np.cumsum(counts) - counts + 1).astype(np.int64)[inverse]
    distribution = np.ones(1)
    for rank in doubled:
        longer = np.zeros(len(distribution) + rank)
        longer[: len(distribution)] += distribution / 2
        longer[rank:] += distribution / 2
        distribution = longer
    up = int(doubled[d > 0].sum())
    smaller = min(up, int(doubled.sum()) - up)
    return Outcome(smaller / 2, min(1.0, 2 * float(distribution[: smaller + 1].sum())), len(d))


def paired_t(differences: npt.ArrayLike) -> Outcome:
    """Student's t of paired differences ``(K,)``; NaN below two, or where all are the same."""
    return corrected_t(differences, 0.0)


def corrected_t(differences: npt.ArrayLike, test_over_train: float) -> Outcome:
    """Corrected resampled t over J folds or splits (Nadeau and Bengio 2003).

    The training sets of folds overlap, so the variance of the mean is
    ``(1 / J + n_test / n_train) s^2``: ``test_over_train`` is ``1 / (k - 1)`` for k folds. NaN
    below two differences, or where all are the same.
    """
    d = _finite(differences)
    j = len(d)
    if j < 2 or np.ptp(d) <= 1e-12 * np.abs(d).max():
        return Outcome(float("nan"), float("nan"), j)
    t = float(d.mean() / np.sqrt((1 / j + test_over_train) * d.var(ddof=1)))
    return Outcome(t, float(2 * stdtr(j - 1, -abs(t))), j)


def paired_bootstrap_p(draws: npt.ArrayLike) -> float:
    """Two-sided p value that a paired difference is nought, from its bootstrap draws ``(D,)``.

    ``2 (1 + draws on the rarer side of nought) / (D + 1)``, at most 1; a draw of exactly nought, or
    one that does not determine the value, counts on both sides. It is the confidence level at which
    the percentile interval touches nought, so the two agree. NaN without draws.
    """
    d = np.asarray(draws, dtype=np.float64)
    if not np.isfinite(d).any():
        return float("nan")
    below, above = int((~(d > 0)).sum()), int((~(d < 0)).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (len(d) + 1))


def holm(p_values: npt.ArrayLike) -> Floats:
    """Holm's step-down adjusted p values ``(M,)``: they control the family-wise error.

    NaN stays NaN and is not one of the M tests.
    """
    p = np.asarray(p_values, dtype=np.float64)
    out = np.full(p.shape, np.nan)
    at = np.flatnonzero(np.isfinite(p))
    order = at[np.argsort(p[at], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(order) else steps
    return out


def _finite(values: npt.ArrayLike) -> Floats:
    v = np.asarray(values, dtype=np.float64).ravel()
    return v[np.isfinite(v)]
