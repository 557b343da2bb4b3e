"""Do the probabilities mean what they say? Reliability curve and expected calibration error.

Bins hold equal mass: the patients are ordered by probability and cut into B parts of ``N / B``
patients each. A patient on a cut belongs to both sides in proportion, and patients of the same
probability share every bin that they reach, so that the order of patients plays no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared_model.metrics.arrays import Floats, Ints, everybody, ratio
from shared_model.metrics.calibration_line import (
    CalibrationLine,
    calibration_line,
    calibration_lines,
    confidence_line,
)
from shared_model.metrics.scores import brier_score, negative_log_likelihood
from shared_model.metrics.temperature import fitted_temperature, with_temperature

__all__ = [
    "BINS",
    "CalibrationLine",
    "ReliabilityCurve",
    "brier_score",
    "calibration_error_over",
    "calibration_line",
    "calibration_lines",
    "classwise_ece_over",
    "classwise_eces",
    "confidence_line",
    "ece",
    "ece_over",
    "fitted_temperature",
    "macro_ece",
    "negative_log_likelihood",
    "reliability_curve",
    "with_temperature",
]

BINS = 15


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """B equal-mass bins of a reliability diagram, from low to high probability.

    Attributes:
        predicted: ``(B,)`` mean probability of the event in the bin.
        observed: ``(B,)`` share of the bin with the event.
        low: ``(B,)`` lower end of the 95 % Wilson interval of ``observed``.
        high: ``(B,)`` upper end.
        patients: number of patients in a bin, ``N / B``.
    """

    predicted: Floats
    observed: Floats
    low: Floats
    high: Floats
    patients: float


def calibration_error_over(
    event: Floats, probability: Floats, counts: Floats, bins: int = BINS
) -> Floats:
    """``(D,)`` mean over equal-mass bins of the distance of mean probability and event rate.

    ``event`` ``(N,)`` is 0 or 1, ``probability`` ``(N,)`` what was predicted for it.
    """
    excess = _bin_sums(probability - event, probability, counts, bins)
    return ratio(np.abs(excess).sum(1), np.asarray(counts).sum(1))


def ece_over(y: Ints, p: Floats, counts: Floats, bins: int = BINS) -> Floats:
    """``(D,)`` top-label calibration errors."""
    return calibration_error_over(*_top(y, p), counts, bins)


def classwise_ece_over(y: Ints, p: Floats, counts: Floats, bins: int = BINS) -> Floats:
    """``(D, C)`` calibration errors of each class's probability; NaN for a class nobody has."""
    columns = []
    for c in range(p.shape[1]):
        event = (y == c).astype(np.float64)
        error = calibration_error_over(event, p[:, c], counts, bins)
        columns.append(np.where(counts @ event > 0, error, np.nan))
    return np.stack(columns, axis=1)


def ece(y: Ints, p: Floats, bins: int = BINS) -> float:
    """Expected calibration error of the top label: is the decision right as often as it says?

    Never nought for a perfect model of finitely many patients: compare models on the same patients.
    """
    return float(ece_over(y, p, everybody(len(y)), bins)[0])


def classwise_eces(y: Ints, p: Floats, bins: int = BINS) -> Floats:
    """``(C,)`` calibration error of each class's probability; NaN for a class nobody has."""
    out: Floats = classwise_ece_over(y, p, everybody(len(y)), bins)[0]
    return out


def macro_ece(y: Ints, p: Floats, bins: int = BINS) -> float:
    """Mean of the classwise errors over all C classes (static calibration error)."""
    return float(classwise_eces(y, p, bins).mean())


def reliability_curve(
    y: Ints, p: Floats, positive: int | None = None, bins: int = BINS
) -> ReliabilityCurve:
    """Reliability of the probability of class ``positive``, or of the top label where None.

    With fewer patients than bins there are as many bins as patients.
    """
    if positive is None:
        event, probability = _top(y, p)
    else:
        event, probability = (y == positive).astype(np.float64), p[:, positive]
    bins = min(bins, len(y))
    mass, one = len(y) / bins, everybody(len(y))
    observed = np.clip(_bin_sums(event, probability, one, bins)[0] / mass, 0, 1)
    z2 = 1.959963984540054**2
    centre = (observed + z2 / (2 * mass)) / (1 + z2 / mass)
    half = np.sqrt(z2 * (observed * (1 - observed) / mass + z2 / (4 * mass**2))) / (1 + z2 / mass)
    return ReliabilityCurve(
        predicted=_bin_sums(probability, probability, one, bins)[0] / mass,
        observed=observed,
        low=np.clip(centre - half, 0, 1),
        high=np.clip(centre + half, 0, 1),
        patients=mass,
    )


def _top(y: Ints, p: Floats) -> tuple[Floats, Floats]:
    return (p.argmax(1) == y).astype(np.float64), p.max(1)


def _bin_sums(value: Floats, key: Floats, counts: Floats, bins: int) -> Floats:
    """``(D, B)`` sums of ``value`` in equal-mass bins of ``key``.

    The running sum of the values is linear in the mass between one tied group's end and the next,
    and read off at the cuts.
    """
    order = np.argsort(key, kind="stable")
    last = np.append(np.flatnonzero(np.diff(key[order])), len(key) - 1)
    c = np.asarray(counts, dtype=np.float64)[:, order]
    start = np.zeros((len(c), 1))
    mass = np.concatenate([start, np.cumsum(c, axis=1)[:, last]], axis=1)
    total = np.concatenate([start, np.cumsum(c * value[order], axis=1)[:, last]], axis=1)
    cuts = np.linspace(0, 1, bins + 1)
    at = [np.interp(cuts * m[-1], m, t) for m, t in zip(mass, total, strict=True)]
    return np.diff(np.stack(at), axis=1)
