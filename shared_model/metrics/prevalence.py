"""What the predictive values would be at another prevalence (Bayes' rule).

Sensitivity and specificity are taken as they are; between a memory clinic and a population that is
an assumption (spectrum bias), and the report must say so.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared_model.metrics.arrays import Floats, ratio
from shared_model.metrics.classification import Rates, rates


def adjusted_ppv(
    sensitivity: npt.ArrayLike, specificity: npt.ArrayLike, prevalence: npt.ArrayLike
) -> Floats:
    """PPV of a two-way test at a prevalence in 0..1; arrays broadcast; NaN if nobody is called."""
    hit = np.asarray(sensitivity) * np.asarray(prevalence)
    return ratio(hit, hit + (1 - np.asarray(specificity)) * (1 - np.asarray(prevalence)))


def adjusted_npv(
    sensitivity: npt.ArrayLike, specificity: npt.ArrayLike, prevalence: npt.ArrayLike
) -> Floats:
    """NPV of a two-way test at a prevalence in 0..1; NaN if everybody is called."""
    clear = np.asarray(specificity) * (1 - np.asarray(prevalence))
    return ratio(clear, clear + (1 - np.asarray(sensitivity)) * np.asarray(prevalence))


def adjusted_rates(matrix: npt.ArrayLike, prevalence: npt.ArrayLike) -> Rates:
    """Every figure of a confusion matrix ``(..., C, C)`` if class c had the share ``prevalence``.

    Rows are rescaled to ``prevalence`` ``(C,)``, which must sum to one. A class that nobody has but
    whose prevalence is above nought makes all figures NaN that depend on it.
    """
    m, share = np.asarray(matrix, dtype=np.float64), np.asarray(prevalence, dtype=np.float64)
    if share.shape != m.shape[-1:] or (share < 0).any() or not np.isclose(share.sum(), 1):
        raise ValueError(f"prevalence must be {m.shape[-1]} shares that sum to one, not {share}")
    rows = np.where(share[:, None] > 0, ratio(m, m.sum(-1, keepdims=True)) * share[:, None], 0)
    return rates(rows)
