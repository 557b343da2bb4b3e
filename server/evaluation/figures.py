"""Sensitivity, balanced accuracy, AUC and calibration from noised counts, each with its interval.

Everything is post-processing of released sums: it costs no privacy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from server.evaluation.counts import Floats, NoisedCounts
from server.evaluation.intervals import Estimate, mean_of, not_rejected, z_score
from shared_model.releases.statistics import nodes

# A denominator within so many standard deviations of its noise says nothing: no value is given.
_VISIBLE = 2.0


@dataclass(frozen=True)
class Figures:
    """How well a model does on test patients that nobody outside the hospital can count.

    Attributes:
        patients: how many there were.
        sensitivity, auc, calibration_gap: one per class, in the order of the plan's labels. The
            AUC is one-versus-rest, from scores shared between a few nodes: slightly nearer to 0.5
            than that of the exact scores. The gap is mean score minus share of the class.
        balanced_accuracy, macro_auc: means over the classes.
        calibration_error: the largest absolute gap.
    """

    patients: Estimate
    sensitivity: tuple[Estimate, ...]
    auc: tuple[Estimate, ...]
    calibration_gap: tuple[Estimate, ...]
    balanced_accuracy: Estimate
    macro_auc: Estimate
    calibration_error: Estimate


def figures(counts: NoisedCounts, confidence: float = 0.95) -> Figures:
    """All figures of some counts; each interval holds for itself at ``confidence``."""
    c, z = len(counts.confusion), z_score(confidence)
    total, sd = float(counts.confusion.sum()), c * counts.confusion_sd
    sensitivity = tuple(_sensitivity(counts, k, z) for k in range(c))
    gaps = tuple(_gap(counts, k, z) for k in range(c))
    together = z_score(1 - (1 - confidence) / c)
    return Figures(
        patients=Estimate(
            total if total > _VISIBLE * sd else None,
            max(0.0, total - z * sd),
            max(0.0, total + z * sd),
        ),
        sensitivity=sensitivity,
        auc=tuple(_auc(counts, k, z) for k in range(c)),
        calibration_gap=gaps,
        balanced_accuracy=mean_of(sensitivity),
        macro_auc=_macro_auc(counts, z),
        calibration_error=_largest(tuple(_gap(counts, k, together) for k in range(c))),
    )


def _sensitivity(counts: NoisedCounts, k: int, z: float) -> Estimate:
    """Share of class ``k`` that is recognised: Wilson's sampling variance, the noise added."""
    row, noise = counts.confusion[k], counts.confusion_sd**2
    right, total, others = float(row[k]), float(row.sum()), len(row) - 1
    visible = total > max(_VISIBLE * math.sqrt(noise * len(row)), 0.5)
    patients = max(total, 0.0)
    return not_rejected(
        min(max(right / total, 0.0), 1.0) if visible else None,
        lambda t: right - t * total,
        lambda t: noise * ((1 - t) ** 2 + others * t**2) + patients * t * (1 - t),
        z=z,
    )


def _macro_auc(counts: NoisedCounts, z: float) -> Estimate:
    """Mean over the classes: their noises are independent, their patients are the same ones."""
    c = len(counts.confusion)
    noise = mean_of([_auc(counts, k, z, sampling=False) for k in range(c)])
    sampling = [_auc(counts, k, z, noisy=False) for k in range(c)]
    below = sum(part.centre - part.low for part in sampling) / c
    above = sum(part.high - part.centre for part in sampling) / c
    return Estimate(
        noise.value,
        max(0.0, noise.centre - math.hypot(noise.centre - noise.low, below)),
        min(1.0, noise.centre + math.hypot(noise.high - noise.centre, above)),
    )


def _auc(
    counts: NoisedCounts, k: int, z: float, *, noisy: bool = True, sampling: bool = True
) -> Estimate:
    """Area under the ROC curve of class ``k`` against the rest.

    With P and N the histograms of class and rest, ``L(a) = P'(K - a)N``, ``K`` one above, a half on
    and zero below the diagonal: bilinear, so the variance of the noise is known exactly. Sampling:
    Hanley and McNeil (1982) at the AUC ``a``.
    """
    negative, positive = counts.scores[k]
    size, sd = len(positive), counts.scores_sd
    kernel = np.tri(size, k=-1) + 0.5 * np.eye(size)
    n_p, n_n = float(positive.sum()), float(negative.sum())
    wins, pairs = float(positive @ kernel @ negative), n_p * n_n
    visible = min(n_p, n_n) > max(_VISIBLE * sd * math.sqrt(size), 0.5)

    def variance(a: Floats) -> Floats:
        out = np.zeros_like(a)
        if noisy:
            q = kernel[None] - a[:, None, None]
            both = sd**4 * np.square(q).sum(axis=(1, 2))
            alone = np.square(q @ negative).sum(1) + np.square(positive @ q).sum(1)
            alone *= sd**2
            # Plugging noised counts into the variance adds it twice more than it is.
            out += np.maximum(alone - both, both)
        if sampling:
            out += pairs**2 * _hanley_mcneil(a, max(n_p, 1.0), max(n_n, 1.0))
        return out

    return not_rejected(
        min(max(wins / pairs, 0.0), 1.0) if visible else None,
        lambda a: wins - a * pairs,
        variance,
        z=z,
    )


def _hanley_mcneil(a: Floats, positive: float, negative: float) -> Floats:
    """Sampling variance of an AUC that is ``a``."""
    one, two = a / (2 - a), 2 * a**2 / (1 + a)
    spread = a * (1 - a) + (positive - 1) * (one - a**2) + (negative - 1) * (two - a**2)
    return np.maximum(spread, 0.0) / (positive * negative)


def _gap(counts: NoisedCounts, k: int, z: float) -> Estimate:
    """Mean score of class ``k`` minus the share of patients who have it, in [-1, 1]."""
    scores = counts.scores[k]
    value = nodes(len(counts.scores))[None, :] - np.array([[0.0], [1.0]])
    total, sd = float(scores.sum()), counts.scores_sd
    above = float((scores * value).sum())
    seen = np.maximum(scores, 0.0)

    def variance(g: Floats) -> Floats:
        squares = np.square(value[None] - g[:, None, None])
        out: Floats = (squares * (sd**2 + seen[None])).sum(axis=(1, 2))
        return out

    visible = total > max(_VISIBLE * sd * math.sqrt(scores.size), 0.5)
    return not_rejected(
        min(max(above / total, -1.0), 1.0) if visible else None,
        lambda g: above - g * total,
        variance,
        z=z,
        low=-1.0,
    )


def _largest(gaps: tuple[Estimate, ...]) -> Estimate:
    """The largest absolute gap, from simultaneous intervals."""
    values = [abs(gap.value) for gap in gaps if gap.value is not None]
    nearest = [0.0 if g.low <= 0 <= g.high else min(abs(g.low), abs(g.high)) for g in gaps]
    return Estimate(
        max(values) if len(values) == len(gaps) else None,
        max(nearest),
        max(max(abs(gap.low), abs(gap.high)) for gap in gaps),
    )
