"""Classification metrics with patient-level bootstrap intervals; numpy only.

A quantity that the data cannot determine (a class nobody has, one class only) is NaN, never a
number that looks like a result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_model.errors import SmrfedError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Metric = Callable[[Ints, Floats], float]

# Log-likelihood of a class that a model called impossible: bounded, as in scikit-learn.
_SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)


def checked(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[Ints, Floats]:
    """Labels ``(N,)`` in 0..C-1 and probabilities ``(N, C)`` as int64 and float64.

    Raises SMR-E607 for other shapes, labels out of range, or rows that are no distribution.
    """
    y, p = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or y.shape != p.shape[:1] or p.shape[1] < 2 or y.size == 0:
        raise _refuse("labels (N,) and probabilities (N, C), N >= 1, C >= 2", (y.shape, p.shape))
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= p.shape[1]:
        raise _refuse(f"integer labels in 0..{p.shape[1] - 1}", np.unique(y).tolist()[:10])
    if not np.isfinite(p).all() or (p < 0).any() or not np.allclose(p.sum(1), 1, atol=1e-4):
        raise _refuse("finite probabilities whose rows sum to one", "other values")
    return y.astype(np.int64), p


def confusion_matrix(y: Ints, p: Floats) -> Ints:
    """``(C, C)`` counts: rows are the true class, columns the most probable one."""
    classes = p.shape[1]
    flat = np.bincount(y * classes + p.argmax(1), minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def sensitivities(y: Ints, p: Floats) -> Floats:
    """``(C,)`` share of each class that is recognised; NaN for a class that nobody has."""
    matrix = confusion_matrix(y, p)
    return _ratio(np.diag(matrix), matrix.sum(1))


def specificities(y: Ints, p: Floats) -> Floats:
    """``(C,)`` share of the other classes that is not called this one; NaN if there are none."""
    matrix = confusion_matrix(y, p)
    total, actual = matrix.sum(), matrix.sum(1)
    false_positive = matrix.sum(0) - np.diag(matrix)
    return _ratio(total - actual - false_positive, total - actual)


def accuracy(y: Ints, p: Floats) -> float:
    """Share of patients whose most probable class is the true one."""
    return float((p.argmax(1) == y).mean())


def balanced_accuracy(y: Ints, p: Floats) -> float:
    """Mean sensitivity over all C classes; NaN when a class has no patient."""
    return float(sensitivities(y, p).mean())


def aucs(y: Ints, p: Floats) -> Floats:
    """``(C,)`` area under the ROC curve of each class against the rest, ties counted half.

    NaN for a class without patients, or without patients of other classes.
    """
    return np.array([_auc(y == c, p[:, c]) for c in range(p.shape[1])])


def macro_auc(y: Ints, p: Floats) -> float:
    """Mean one-versus-rest AUC over all C classes; NaN when one of them is undefined."""
    return float(aucs(y, p).mean())


def negative_log_likelihood(y: Ints, p: Floats) -> float:
    """Mean of ``-log p(true class)`` in nats."""
    likelihood = np.clip(p[np.arange(len(y)), y], _SMALLEST_PROBABILITY, 1.0)
    return float(-np.log(likelihood).mean())


def brier_score(y: Ints, p: Floats) -> float:
    """Mean squared distance of the probabilities from the one-hot truth, summed over classes."""
    return float(((p - np.eye(p.shape[1])[y]) ** 2).sum(1).mean())


METRICS: dict[str, Metric] = {
    "balanced_accuracy": balanced_accuracy,
    "macro_auc": macro_auc,
    "accuracy": accuracy,
    "negative_log_likelihood": negative_log_likelihood,
    "brier_score": brier_score,
}


@dataclass(frozen=True)
class Interval:
    """An estimate with its percentile interval; NaN where the data do not determine it."""

    estimate: float
    low: float
    high: float


def stratified_draws(y: Ints, draws: int, seed: int) -> Ints:
    """``(draws, N)`` indices of patients, resampled with replacement inside each class.

    Every class keeps its size, so a draw never loses one. Methods that are compared on the same
    patients share the draws.
    """
    rng = np.random.default_rng(seed)
    out = np.empty((draws, len(y)), dtype=np.int64)
    for c in np.unique(y):
        members = np.flatnonzero(y == c)
        out[:, members] = members[rng.integers(0, len(members), (draws, len(members)))]
    return out


def bootstrap(
    metric: Metric, y: Ints, p: Floats, draws: Ints, confidence: float = 0.95
) -> Interval:
    """Percentile interval of a metric over patients; one row of ``p`` is one patient."""
    return _interval(metric(y, p), [metric(y[i], p[i]) for i in draws], confidence)


def paired_difference(
    metric: Metric, y: Ints, p: Floats, q: Floats, draws: Ints, confidence: float = 0.95
) -> Interval:
    """Interval of ``metric(p) - metric(q)`` for two models on the same patients and draws."""
    values = [metric(y[i], p[i]) - metric(y[i], q[i]) for i in draws]
    return _interval(metric(y, p) - metric(y, q), values, confidence)


def _interval(estimate: float, values: Sequence[float], confidence: float) -> Interval:
    if not np.isfinite(estimate) or not np.isfinite(values).all():
        return Interval(estimate, float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high))


def _auc(positive: npt.NDArray[np.bool_], score: Floats) -> float:
    """Mann-Whitney form: mean ranks of the positives."""
    n, m = int(positive.sum()), int((~positive).sum())
    if n == 0 or m == 0:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def _ratio(numerator: Ints, denominator: Ints) -> Floats:
    out = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def _refuse(expected: str, found: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E607",
        "labels and probabilities cannot be scored",
        expected=expected,
        found=found,
        remedy="pass one row of class probabilities per patient, and labels in the same order",
    )
