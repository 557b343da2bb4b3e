"""Metrics of patients' predictions and their statistics; one module per idea.

A metric takes labels ``(N,)`` int64 and probabilities ``(N, C)`` float64, one row per patient. A
quantity that the data cannot determine (a class nobody has, one class only) is NaN, never a number
that looks like a result. What is imported here needs numpy alone; ``tests`` and ``site_probe`` need
scipy.
"""

from shared_model.metrics.arrays import Floats, Ints, Metric, MetricOver, checked
from shared_model.metrics.bootstrap import (
    Interval,
    bootstrap,
    counts_of,
    paired_difference,
    stratified_draws,
)
from shared_model.metrics.classification import (
    accuracy,
    balanced_accuracy,
    balanced_accuracy_over,
    confusion_matrix,
    sensitivities,
    specificities,
)
from shared_model.metrics.ranking import aucs, macro_auc, macro_auc_over
from shared_model.metrics.scores import brier_score, negative_log_likelihood

METRICS: dict[str, Metric] = {
    "balanced_accuracy": balanced_accuracy,
    "macro_auc": macro_auc,
    "accuracy": accuracy,
    "negative_log_likelihood": negative_log_likelihood,
    "brier_score": brier_score,
}

__all__ = [
    "METRICS",
    "Floats",
    "Interval",
    "Ints",
    "Metric",
    "MetricOver",
    "accuracy",
    "aucs",
    "balanced_accuracy",
    "balanced_accuracy_over",
    "bootstrap",
    "brier_score",
    "checked",
    "confusion_matrix",
    "counts_of",
    "macro_auc",
    "macro_auc_over",
    "negative_log_likelihood",
    "paired_difference",
    "sensitivities",
    "specificities",
    "stratified_draws",
]
