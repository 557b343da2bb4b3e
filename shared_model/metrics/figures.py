"""Every figure of a model at once, by name, over all draws: what a report is made of.

``figures_over(y, p, counts, classes)`` gives ``{name: (D,)}``. Figures by class are called
``auc[AD]``. Estimates are the same function over one draw of ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shared_model.metrics.arrays import Floats, Ints, everybody, ratio
from shared_model.metrics.bootstrap import over_draws
from shared_model.metrics.calibration import classwise_ece_over, ece_over
from shared_model.metrics.calibration_line import calibration_line_over
from shared_model.metrics.classification import confusion_over, rates
from shared_model.metrics.ranking import (
    auc_over,
    average_precision_over,
    by_class,
    specificity_at_over,
)
from shared_model.metrics.scores import brier_losses, log_losses
from shared_model.metrics.selective import aurc_over, referral_rate_over

# For calibration slope and intercept neither more nor less is better: 1 and 0 are.
HIGHER_IS_BETTER: Mapping[str, bool | None] = {
    "balanced_accuracy": True,
    "macro_auc": True,
    "macro_auprc": True,
    "macro_f1": True,
    "mcc": True,
    "accuracy": True,
    "negative_log_likelihood": False,
    "brier_score": False,
    "ece": False,
    "macro_ece": False,
    "calibration_slope": None,
    "calibration_intercept": None,
    "aurc": False,
    "referral_rate_at_95_npv": False,
    "sensitivity": True,
    "specificity": True,
    "ppv": True,
    "npv": True,
    "f1": True,
    "auc": True,
    "auprc": True,
    "specificity_at_90_sensitivity": True,
    "classwise_ece": False,
}


def figures_over(y: Ints, p: Floats, counts: Floats, classes: Sequence[str]) -> dict[str, Floats]:
    """``{name: (D,)}`` over draws ``(D, N)``; a C-class figure has one entry per class name.

    The disease of ``referral_rate_at_95_npv`` is every class but the first.
    """
    if len(classes) != p.shape[1]:
        raise ValueError(f"{len(classes)} class names for {p.shape[1]} classes")
    r = rates(confusion_over(y, p, counts))
    auc = by_class(auc_over, y, p, counts)
    auprc = by_class(average_precision_over, y, p, counts)
    classwise = classwise_ece_over(y, p, counts)
    right = (p.argmax(1) == y).astype(np.float64)
    line = calibration_line_over(right, p.max(1), counts)
    mass = counts.sum(1)
    out = {
        "balanced_accuracy": r.balanced_accuracy,
        "macro_auc": auc.mean(1),
        "macro_auprc": auprc.mean(1),
        "macro_f1": r.macro_f1,
        "mcc": r.mcc,
        "accuracy": r.accuracy,
        "negative_log_likelihood": ratio(counts @ log_losses(y, p), mass),
        "brier_score": ratio(counts @ brier_losses(y, p), mass),
        "ece": ece_over(y, p, counts),
        "macro_ece": classwise.mean(1),
        "calibration_slope": line[:, 0],
        "calibration_intercept": line[:, 1],
        "aurc": aurc_over(y, p, counts),
        "referral_rate_at_95_npv": referral_rate_over(y, p, counts),
    }
    columns = {
        "sensitivity": r.sensitivity,
        "specificity": r.specificity,
        "ppv": r.ppv,
        "npv": r.npv,
        "f1": r.f1,
        "auc": auc,
        "auprc": auprc,
        "specificity_at_90_sensitivity": by_class(specificity_at_over, y, p, counts),
        "classwise_ece": classwise,
    }
    for figure, values in columns.items():
        out |= {f"{figure}[{name}]": values[:, c] for c, name in enumerate(classes)}
    return out


def figures(y: Ints, p: Floats, classes: Sequence[str]) -> dict[str, float]:
    """The estimates; NaN where the patients do not determine one."""
    return {n: float(v[0]) for n, v in figures_over(y, p, everybody(len(y)), classes).items()}


def drawn_figures(y: Ints, p: Floats, counts: Floats, classes: Sequence[str]) -> dict[str, Floats]:
    """:func:`figures_over`, a chunk of draws at a time."""
    return over_draws(lambda part: figures_over(y, p, part, classes), counts)
