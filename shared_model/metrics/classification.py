"""Figures of the decision for the most probable class: confusion matrix and what follows from it.

All of them follow from the matrix alone, so they also hold for a matrix that was summed over
hospitals, reweighted to another prevalence, or resampled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_model.metrics.arrays import Floats, Ints, ratio


@dataclass(frozen=True, eq=False)
class Rates:
    """What a confusion matrix ``(..., C, C)`` says; ``...`` are draws or nothing.

    Class c is the positive one in every figure by class ``(..., C)``; the rest are ``(...,)``.

    Attributes:
        sensitivity: share of class c that is called c; NaN if nobody is of class c.
        specificity: share of the others that is not called c; NaN if there are no others.
        ppv: share of those called c who are of class c; NaN if nobody is called c.
        npv: share of those not called c who are not of class c; NaN if everybody is called c.
        f1: ``2 TP / (2 TP + FP + FN)``; NaN if nobody is of class c.
        accuracy: share of all patients that is called right.
        balanced_accuracy: mean sensitivity over all classes.
        macro_f1: mean F1 over all classes.
        mcc: Matthews correlation of decision and truth for C classes (Gorodkin 2004); NaN where
            all patients are of one class or called one class (scikit-learn says 0).
    """

    sensitivity: Floats
    specificity: Floats
    ppv: Floats
    npv: Floats
    f1: Floats
    accuracy: Floats
    balanced_accuracy: Floats
    macro_f1: Floats
    mcc: Floats


def rates(matrix: npt.ArrayLike) -> Rates:
    """Every figure of confusion matrices ``(..., C, C)``: rows the truth, columns the decision."""
    m = np.asarray(matrix, dtype=np.float64)
    hit = np.diagonal(m, axis1=-2, axis2=-1)
    actual, called, total = m.sum(-1), m.sum(-2), m.sum((-2, -1))
    others, uncalled = total[..., None] - actual, total[..., None] - called
    right_rejections = others - (called - hit)
    sensitivity = _sensitivity(m)
    f1 = np.where(actual > 0, ratio(2 * hit, actual + called), np.nan)
    covariance = hit.sum(-1) * total - (actual * called).sum(-1)
    spread = (total**2 - (actual**2).sum(-1)) * (total**2 - (called**2).sum(-1))
    return Rates(
        sensitivity=sensitivity,
        specificity=ratio(right_rejections, others),
        ppv=ratio(hit, called),
        npv=ratio(right_rejections, uncalled),
        f1=f1,
        accuracy=ratio(hit.sum(-1), total),
        balanced_accuracy=sensitivity.mean(-1),
        macro_f1=f1.mean(-1),
        mcc=ratio(covariance, np.sqrt(np.maximum(spread, 0))),
    )


def _sensitivity(matrix: npt.NDArray[np.float64] | Ints) -> Floats:
    """``(..., C)`` of matrices ``(..., C, C)``."""
    return ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1))


def confusion_over(y: Ints, p: Floats, counts: Floats) -> Floats:
    """``(D, C, C)`` confusion matrices of the draws in ``counts`` ``(D, N)``."""
    classes = p.shape[1]
    cell = np.eye(classes * classes)[y * classes + p.argmax(1)]
    cells: Floats = np.asarray(counts, dtype=np.float64) @ cell
    return cells.reshape(-1, classes, classes)


def balanced_accuracy_over(y: Ints, p: Floats, counts: Floats) -> Floats:
    """``(D,)`` :func:`balanced_accuracy` of the draws in ``counts`` ``(D, N)``."""
    out: Floats = _sensitivity(confusion_over(y, p, counts)).mean(-1)
    return out


def confusion_matrix(y: Ints, p: Floats) -> Ints:
    """``(C, C)`` counts: rows are the true class, columns the most probable one."""
    classes = p.shape[1]
    flat = np.bincount(y * classes + p.argmax(1), minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def sensitivities(y: Ints, p: Floats) -> Floats:
    """``(C,)`` share of each class that is recognised; NaN for a class that nobody has."""
    return _sensitivity(confusion_matrix(y, p))


def specificities(y: Ints, p: Floats) -> Floats:
    """``(C,)`` share of the other classes that is not called this one; NaN if there are none."""
    return rates(confusion_matrix(y, p)).specificity


def ppvs(y: Ints, p: Floats) -> Floats:
    """``(C,)`` positive predictive values; NaN for a class that nobody is called."""
    return rates(confusion_matrix(y, p)).ppv


def npvs(y: Ints, p: Floats) -> Floats:
    """``(C,)`` negative predictive values; NaN for a class that everybody is called."""
    return rates(confusion_matrix(y, p)).npv


def f1s(y: Ints, p: Floats) -> Floats:
    """``(C,)`` F1 with each class as the positive one; NaN for a class that nobody has."""
    return rates(confusion_matrix(y, p)).f1


def accuracy(y: Ints, p: Floats) -> float:
    """Share of patients whose most probable class is the true one."""
    return float((p.argmax(1) == y).mean())


def balanced_accuracy(y: Ints, p: Floats) -> float:
    """Mean sensitivity over all C classes; NaN when a class has no patient."""
    return float(sensitivities(y, p).mean())


def macro_f1(y: Ints, p: Floats) -> float:
    """Mean F1 over all C classes; NaN when a class has no patient."""
    return float(f1s(y, p).mean())


def mcc(y: Ints, p: Floats) -> float:
    """Matthews correlation for C classes (Gorodkin 2004); NaN for one true or one called class."""
    return float(rates(confusion_matrix(y, p)).mcc)
