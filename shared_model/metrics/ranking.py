"""How well the probability of a class ranks its patients above the others: no threshold.

Class c against the rest throughout; tied scores count half in the AUC and move together elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shared_model.metrics.arrays import Bools, Floats, Ints, everybody, ratio


def auc_over(positive: Bools, score: Floats, counts: Floats) -> Floats:
    """``(D,)`` areas under the ROC curve of ``score`` ``(N,)`` over draws ``(D, N)``."""
    true, false = _rising(positive, score, counts)
    area = (np.diff(false, axis=1) * (true[:, 1:] + true[:, :-1])).sum(1) / 2
    return ratio(area, true[:, -1] * false[:, -1])


def average_precision_over(positive: Bools, score: Floats, counts: Floats) -> Floats:
    """``(D,)`` areas under the precision-recall curve, as the sum of its steps.

    ``sum_t (recall_t - recall_(t-1)) precision_t``, as in scikit-learn; NaN without positives or
    without negatives.
    """
    true, false = _rising(positive, score, counts)
    # Where nobody is called yet there is no precision, and no step in recall either.
    precision = np.nan_to_num(ratio(true[:, 1:], true[:, 1:] + false[:, 1:]))
    area = ratio((np.diff(true, axis=1) * precision).sum(1), true[:, -1])
    return np.where(false[:, -1] > 0, area, np.nan)


def specificity_at_over(
    positive: Bools, score: Floats, counts: Floats, sensitivity: float = 0.9
) -> Floats:
    """``(D,)`` best specificity of a threshold whose sensitivity is at least the one asked for."""
    true, false = _rising(positive, score, counts)
    reached = true >= sensitivity * true[:, -1:] - 1e-9
    at = np.take_along_axis(false, reached.argmax(1)[:, None], axis=1)[:, 0]
    out = ratio(false[:, -1] - at, false[:, -1])
    return np.where(true[:, -1] > 0, out, np.nan)


def by_class(
    over: Callable[..., Floats], y: Ints, p: Floats, counts: Floats, **options: float
) -> Floats:
    """``(D, C)`` of one of the functions above, with each class as the positive one."""
    columns = [over(y == c, p[:, c], counts, **options) for c in range(p.shape[1])]
    return np.stack(columns, axis=1)


def aucs(y: Ints, p: Floats) -> Floats:
    """``(C,)`` area under the ROC curve of each class against the rest, ties counted half.

    NaN for a class without patients, or without patients of other classes.
    """
    out: Floats = by_class(auc_over, y, p, everybody(len(y)))[0]
    return out


def macro_auc_over(y: Ints, p: Floats, counts: Floats) -> Floats:
    """``(D,)`` :func:`macro_auc` of the draws in ``counts`` ``(D, N)``."""
    out: Floats = by_class(auc_over, y, p, counts).mean(1)
    return out


def macro_auc(y: Ints, p: Floats) -> float:
    """Mean one-versus-rest AUC over all C classes; NaN when one of them is undefined."""
    return float(aucs(y, p).mean())


def auprcs(y: Ints, p: Floats) -> Floats:
    """``(C,)`` average precision of each class against the rest; its chance level is the share."""
    out: Floats = by_class(average_precision_over, y, p, everybody(len(y)))[0]
    return out


def macro_auprc(y: Ints, p: Floats) -> float:
    """Mean average precision over all C classes; NaN when one of them is undefined."""
    return float(auprcs(y, p).mean())


def specificities_at_sensitivity(y: Ints, p: Floats, sensitivity: float = 0.9) -> Floats:
    """``(C,)`` specificity at the highest threshold on p(c) that keeps the sensitivity asked for.

    The threshold is chosen on these patients: optimistic, and more so with few of them.
    """
    one = everybody(len(y))
    out: Floats = by_class(specificity_at_over, y, p, one, sensitivity=sensitivity)[0]
    return out


def _rising(positive: Bools, score: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """True and false positives ``(D, T + 1)`` as the threshold falls over T distinct scores."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    sorted_counts = np.asarray(counts, dtype=np.float64)[:, order]
    start = np.zeros((len(sorted_counts), 1))
    both = [
        np.concatenate([start, np.cumsum(sorted_counts * mask[order], axis=1)[:, last]], axis=1)
        for mask in (positive, ~positive)
    ]
    return both[0], both[1]
