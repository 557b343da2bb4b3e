"""Does a baseline scan tell which patients with MCI convert to AD within 36 months?

Only patients with MCI at baseline and a known course take part: progressive (AD within the horizon)
or stable (followed for the horizon without). The risk is p(AD); the model never saw the course.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_model.metrics.arrays import Bools, Floats, everybody
from shared_model.metrics.bootstrap import Interval
from shared_model.metrics.classification import rates
from shared_model.metrics.delong import delong_interval
from shared_model.metrics.ranking import auc_over, average_precision_over, specificity_at_over

HORIZON_MONTHS = 36


@dataclass(frozen=True)
class Conversion:
    """Figures with conversion as the positive class; NaN where the patients do not determine them.

    Attributes:
        auc: with DeLong's interval.
        auprc: average precision; its chance level is the share of converters.
        sensitivity: share of converters with a risk of at least ``threshold``.
        specificity: share of the stable below it.
        ppv: share of converters among those at or above it.
        npv: share of the stable among those below it.
        specificity_at_90: best specificity at a sensitivity of at least 0.9.
        threshold: on the risk.
        progressive: number of converters.
        stable: number of the others.
    """

    auc: Interval
    auprc: float
    sensitivity: float
    specificity: float
    ppv: float
    npv: float
    specificity_at_90: float
    threshold: float
    progressive: int
    stable: int


def conversion(
    progressive: npt.ArrayLike, risk: npt.ArrayLike, threshold: float = 0.5
) -> Conversion:
    """Figures of the risk ``(N,)`` for the course ``(N,)``, true for progressive; N may be 0."""
    positive, score = np.asarray(progressive, dtype=bool), np.asarray(risk, dtype=np.float64)
    if positive.shape != score.shape or positive.ndim != 1:
        raise ValueError(f"courses and risks are (N,), not {positive.shape} and {score.shape}")
    nan = float("nan")
    if not len(positive):
        return Conversion(Interval(nan, nan, nan), nan, nan, nan, nan, nan, nan, threshold, 0, 0)
    one = {
        n: float(v[0])
        for n, v in conversion_over(positive, score, everybody(len(score)), threshold).items()
    }
    return Conversion(
        auc=delong_interval(positive, score),
        auprc=one["auprc"],
        sensitivity=one["sensitivity"],
        specificity=one["specificity"],
        ppv=one["ppv"],
        npv=one["npv"],
        specificity_at_90=one["specificity_at_90"],
        threshold=threshold,
        progressive=int(positive.sum()),
        stable=int((~positive).sum()),
    )


def conversion_over(
    progressive: Bools, risk: Floats, counts: Floats, threshold: float = 0.5
) -> dict[str, Floats]:
    """The same figures ``{name: (D,)}`` over draws ``(D, N)``; also the AUC."""
    cell = np.eye(4)[2 * progressive.astype(np.int64) + (risk >= threshold)]
    found = rates((np.asarray(counts, dtype=np.float64) @ cell).reshape(-1, 2, 2))
    return {
        "auc": auc_over(progressive, risk, counts),
        "auprc": average_precision_over(progressive, risk, counts),
        "sensitivity": found.sensitivity[:, 1],
        "specificity": found.specificity[:, 1],
        "ppv": found.ppv[:, 1],
        "npv": found.npv[:, 1],
        "specificity_at_90": specificity_at_over(progressive, risk, counts, 0.9),
    }
