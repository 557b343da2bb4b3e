"""Can the hospital be told from the embedding? A linear probe of the site within each class.

Within a class, so that sites which differ in prevalence alone are not told apart by the disease.
Needs scipy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from shared_model.metrics.arrays import Floats, Ints
from shared_model.metrics.bootstrap import draw_counts, percentile_interval
from shared_model.metrics.classification import confusion_over, rates


@dataclass(frozen=True)
class ClassProbe:
    """The probe within one class: balanced accuracy over its K sites, and chance ``1 / K``."""

    label: int
    accuracy: float
    chance: float
    sites: tuple[str, ...]
    patients: int


@dataclass(frozen=True)
class SiteProbe:
    """Mean over classes of the balanced accuracy with which the site is told.

    Attributes:
        accuracy: the mean; NaN where no class has two sites with enough patients.
        low: lower end of the 95 % bootstrap interval over patients, within site and class. The
            probe is not refitted, so the interval leaves out how much the fit itself varies.
        high: upper end.
        chance: mean of ``1 / K`` over the same classes.
        p_value: share of permutations of the sites (within class) that reach the accuracy, the
            data among them; NaN without permutations.
        by_class: the classes that took part.
    """

    accuracy: float
    low: float
    high: float
    chance: float
    p_value: float
    by_class: tuple[ClassProbe, ...]


def site_probe(
    embedding: npt.ArrayLike,
    site: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    folds: int = 5,
    minimum: int = 10,
    penalty: float = 1.0,
    draws: int = 2000,
    permutations: int = 0,
    seed: int = 0,
) -> SiteProbe:
    """Probe embeddings ``(N, E)`` of N patients for their site ``(N,)`` within each class ``(N,)``.

    One row is one patient. A site takes part in a class with at least ``minimum`` patients of it, a
    class with at least two such sites. Multinomial logistic regression with ridge ``penalty`` (on
    half the squared norm of the weights: scikit-learn's ``C = 1 / penalty``), sites weighted
    equally, features standardised inside each fold, folds stratified by site; the accuracy is over
    patients that the fit had not seen.
    """
    z = np.asarray(embedding, dtype=np.float64)
    place, label = np.asarray(site).astype(str), np.asarray(y)
    if z.ndim != 2 or place.shape != z.shape[:1] or label.shape != z.shape[:1]:
        raise ValueError(
            f"embeddings (N, E), sites (N,), classes (N,), not {z.shape}, {place.shape}, "
            f"{label.shape}"
        )
    if folds < 2 or minimum < folds:
        raise ValueError(f"needs 2 <= folds <= minimum, not {folds} folds, minimum {minimum}")
    rng = np.random.default_rng(seed)
    parts, values, chances, shuffled = [], [], [], np.zeros(permutations)
    for c in np.unique(label):
        names, n_each = np.unique(place[label == c], return_counts=True)
        names = names[n_each >= minimum]
        if len(names) < 2:
            continue
        rows = np.flatnonzero((label == c) & np.isin(place, names))
        truth = np.searchsorted(names, place[rows]).astype(np.int64)
        called = _out_of_fold(z[rows], truth, folds, penalty, rng)
        decision = np.eye(len(names))[called]
        counts = np.concatenate(
            [np.ones((1, len(rows))), draw_counts(truth, draws=draws, seed=seed + int(c))]
        )
        over = rates(confusion_over(truth, decision, counts)).balanced_accuracy
        values.append(over)
        chances.append(1 / len(names))
        for i in range(permutations):
            fake = rng.permutation(truth)
            guess = np.eye(len(names))[_out_of_fold(z[rows], fake, folds, penalty, rng)]
            one = np.ones((1, len(rows)))
            shuffled[i] += rates(confusion_over(fake, guess, one)).balanced_accuracy[0]
        parts.append(
            ClassProbe(int(c), float(over[0]), 1 / len(names), tuple(map(str, names)), len(rows))
        )
    if not parts:
        return SiteProbe(*(float("nan"),) * 5, ())
    mean = np.mean(values, axis=0)
    interval = percentile_interval(float(mean[0]), mean[1:])
    reached = int((shuffled / len(parts) >= mean[0] - 1e-12).sum())
    p_value = (1 + reached) / (permutations + 1) if permutations else float("nan")
    return SiteProbe(
        interval.estimate,
        interval.low,
        interval.high,
        float(np.mean(chances)),
        p_value,
        tuple(parts),
    )


def _out_of_fold(
    z: Floats, truth: Ints, folds: int, penalty: float, rng: np.random.Generator
) -> Ints:
    """``(N,)`` site that is called for each patient by the fit on the other folds."""
    fold = np.empty(len(truth), dtype=np.int64)
    for k in np.unique(truth):
        members = rng.permutation(np.flatnonzero(truth == k))
        # A random first fold for each site, or the first folds would get all the odd patients.
        fold[members] = (np.arange(len(members)) + rng.integers(folds)) % folds
    called = np.empty(len(truth), dtype=np.int64)
    for f in range(folds):
        fit, held = fold != f, fold == f
        centre, scale = z[fit].mean(0), z[fit].std(0)
        scale = np.where(scale > 1e-12 * (1 + np.abs(centre)), scale, 1.0)
        x = (z - centre) / scale
        weights, bias = multinomial_fit(x[fit], truth[fit], penalty)
        called[held] = (x[held] @ weights + bias).argmax(1)
    return called


def multinomial_fit(x: Floats, truth: Ints, penalty: float) -> tuple[Floats, Floats]:
    """Weights ``(E, K)`` and bias ``(K,)`` of the ridge multinomial fit, classes weighted equally.

    The bias bears no penalty.
    """
    classes, (n, width) = int(truth.max()) + 1, x.shape
    hot = np.eye(classes)[truth]
    weight = (n / classes / hot.sum(0))[truth]
    design = np.concatenate([x, np.ones((n, 1))], axis=1)
    ridge = penalty * np.append(np.ones(width), 0.0)[:, None]

    def loss(flat: Floats) -> tuple[float, Floats]:
        b = flat.reshape(width + 1, classes)
        logits = design @ b
        top = logits.max(1, keepdims=True)
        log_p = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
        value = -(weight * (hot * log_p).sum(1)).sum() + 0.5 * (ridge * b**2).sum()
        gradient = design.T @ (weight[:, None] * (np.exp(log_p) - hot)) + ridge * b
        return float(value), gradient.ravel()

    start = np.zeros((width + 1) * classes)
    options = {"maxiter": 500, "gtol": 1e-6, "ftol": 1e-12}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    solution: Floats = found.x.reshape(width + 1, classes)
    return solution[:-1], solution[-1]
