"""All figures of one arm in one group of patients, with patient-level bootstrap intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from shared_model.evaluation.results import Estimate, GroupFigures
from shared_model.evaluation.table import PredictionTable
from shared_model.metrics.arrays import Floats, Ints
from shared_model.metrics.bootstrap import Interval, draw_counts, percentile_interval
from shared_model.metrics.classification import confusion_matrix
from shared_model.metrics.delong import delong_intervals
from shared_model.metrics.figures import drawn_figures, figures
from shared_model.metrics.temperature import fitted_temperature

#: Below so many patients of a class a figure is indicative (science.md 2.3, point 4).
INDICATIVE_BELOW = 50
#: Figures over all classes, in the order of the tables, with their titles.
METRIC_TITLES = {
    "balanced_accuracy": "Balanced accuracy",
    "macro_auc": "Macro AUC",
    "macro_auprc": "Macro AUPRC",
    "macro_f1": "Macro F1",
    "mcc": "Matthews correlation",
    "accuracy": "Accuracy",
    "negative_log_likelihood": "Negative log-likelihood, nats",
    "brier_score": "Brier score",
    "ece": "ECE, top class",
    "macro_ece": "ECE, mean over classes",
    "calibration_slope": "Calibration slope",
    "calibration_intercept": "Calibration intercept",
    "temperature": "Fitted temperature",
    "aurc": "Area under coverage-risk",
    "referral_rate_at_95_npv": "Referred at 95 % NPV",
}
#: Figures of each class against the rest.
CLASS_TITLES = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
    "auc": "AUC",
    "auc_delong": "AUC, DeLong's interval",
    "auprc": "AUPRC",
    "specificity_at_90_sensitivity": "Specificity at 90 % sensitivity",
    "classwise_ece": "ECE",
}
#: The same for narrow columns, where they differ.
SHORT_TITLES = METRIC_TITLES | {
    "mcc": "MCC",
    "negative_log_likelihood": "NLL",
    "brier_score": "Brier",
    "ece": "ECE",
    "calibration_slope": "Slope",
}
_PROPORTIONS = ("sensitivity", "specificity", "ppv", "npv")
_BIASED = ("ece", "macro_ece", "classwise_ece")


@dataclass(frozen=True, eq=False)
class Scored:
    """A group of patients as arrays, with the draws that all arms share.

    Attributes:
        patients: N identifiers.
        y: ``(N,)`` true classes.
        p: ``(N, C)`` probabilities, rows summing to one exactly.
        counts: ``(D, N)`` how often each draw holds each patient.
        estimate: every figure of :mod:`shared_model.metrics.figures`, all patients once.
        drawn: the same ``(D,)`` over the draws.
    """

    patients: tuple[str, ...]
    y: Ints
    p: Floats
    counts: Floats
    estimate: dict[str, float]
    drawn: dict[str, Floats]

    @classmethod
    def of(cls, table: PredictionTable, draws: int, seed: int) -> Scored:
        """The patients of a table, with draws inside each site and class.

        Equal patients in equal order give equal draws: that is what makes arms paired.
        """
        y, p = table.label, table.probability / table.probability.sum(1, keepdims=True)
        counts = draw_counts(y, list(table.site), draws=draws, seed=seed)
        drawn = drawn_figures(y, p, counts, table.labels)
        return cls(table.patient, y, p, counts, figures(y, p, table.labels), drawn)

    def interval(self, name: str, confidence: float = 0.95) -> Estimate:
        """A figure with its percentile interval.

        A calibration error is never nought for finitely many patients, and greater still for a
        draw that holds some of them twice: its draws are moved so that their median is the
        estimate. The interval then shows how much it varies, not how far it is biased.
        """
        value, drawn = self.estimate[name], self.drawn[name]
        if name.split("[")[0] in _BIASED and np.isfinite(drawn).any():
            drawn = np.maximum(drawn - (np.nanmedian(drawn) - value), 0)
        return as_estimate(percentile_interval(value, drawn, confidence))


def group_figures(group: Scored, labels: tuple[str, ...], confidence: float = 0.95) -> GroupFigures:
    """All figures of a group, each with its interval."""
    y, p = group.y, group.p
    temperature = Estimate.of(fitted_temperature(y, p))
    sizes = np.bincount(y, minlength=len(labels))
    delong = tuple(as_estimate(one) for one in delong_intervals(y, p, confidence))
    matrix = confusion_matrix(y, p)

    def by_class(name: str) -> tuple[Estimate, ...]:
        if name == "auc_delong":
            return delong
        found = tuple(group.interval(f"{name}[{label}]", confidence) for label in labels)
        if name not in _PROPORTIONS:
            return found
        behind = denominators(name, matrix)
        return tuple(
            never_certain(one, n, confidence) for one, n in zip(found, behind, strict=True)
        )

    return GroupFigures(
        patients=len(y),
        class_patients=tuple(int(n) for n in sizes),
        confusion=tuple(tuple(int(n) for n in row) for row in matrix),
        metrics={
            name: temperature if name == "temperature" else group.interval(name, confidence)
            for name in METRIC_TITLES
        },
        per_class={name: by_class(name) for name in CLASS_TITLES},
        indicative=bool(sizes.min() < INDICATIVE_BELOW),
    )


def denominators(name: str, matrix: Ints) -> tuple[int, ...]:
    """Patients behind a proportion of each class: who has it, is called it, or the others."""
    total, actual, called = matrix.sum(), matrix.sum(1), matrix.sum(0)
    behind = {
        "sensitivity": actual,
        "specificity": total - actual,
        "ppv": called,
        "npv": total - called,
    }[name]
    return tuple(int(n) for n in behind)


def never_certain(found: Estimate, patients: int, confidence: float = 0.95) -> Estimate:
    """A proportion of 0 or 1 with Wilson's interval: no draw can show that it might be another."""
    if found.value is None or found.low != found.high or patients < 1:
        return found
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    share, n = found.value, patients
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low, high = max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
    return Estimate.of(share, low, high)


def as_estimate(interval: Interval) -> Estimate:
    """NaN becomes None."""
    return Estimate.of(interval.estimate, interval.low, interval.high)
