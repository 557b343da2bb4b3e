"""The bounded vector of one patient behind every release beside updates; numpy only.

Each array is a sum over patients. One patient's arrays together have L2 norm at most one, whatever
the model says, so a Gaussian of standard deviation ``z`` on every number is the Gaussian mechanism
with noise multiplier ``z`` under add-or-remove-one-patient.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from shared_model.adaptation import moments
from shared_model.adaptation.dimensions import moments_dimensions
from shared_model.adaptation.scores import scores as patient_scores
from shared_model.plan import FederationPlan

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Statistics = Literal["evaluate", "calibrate", "moments"]

CONFUSION = "confusion"
SCORES = "scores"
PROBABILITIES = "probabilities"
SCORE_SUMS = "score_sums"
SCORE_PRODUCTS = "score_products"

#: Kept below one so that rounding, of whatever order of sums, cannot reach it.
SENSITIVITY_MARGIN = 1e-6
# A third of a patient's squared norm goes to the confusion matrix, the rest to the C histograms of
# scores: an AUC needs many more of their numbers than a sensitivity of the matrix.
_SQUARED_SHARE = {CONFUSION: 1 / 3, SCORES: 2 / 3}
# Where the calibration also serves unseen sites: class means of scores need most.
_SQUARED_SHARE_UNSEEN = {PROBABILITIES: 0.2, SCORE_SUMS: 0.5, SCORE_PRODUCTS: 0.3}
# Log odds, relative to equal chances, of the nodes between impossible and certain: finer around
# "no idea", where the scores of models trained under noise lie. Few, because each carries noise.
_NODE_LOG_ODDS = (-1.0, 0.0, 1.0)


def classes(plan: FederationPlan) -> int:
    """C, the number of classes."""
    return len(plan.task.labels)


def shapes(plan: FederationPlan, kind: Statistics) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays of one release; fixed by the plan alone.

    ``evaluate``: ``confusion (C, C)``, rows the true class, columns the most probable one; and
    ``scores (C, 2, B)``: class that the score is for, whether it is the true one (1) or not (0),
    node of :func:`nodes`.
    ``calibrate``: ``probabilities (C, C)``, summed predictions by true class; for unseen sites also
    ``score_sums (C, C)``, summed scores (:mod:`shared_model.adaptation.scores`) by true class, and
    ``score_products (C (C + 1) / 2,)``, the upper triangle of the summed ``z z'``.
    ``moments``: those of :func:`shared_model.adaptation.moments.shapes`.
    """
    c = classes(plan)
    if kind == "moments":
        return moments.shapes(c, moments_dimensions(plan))
    if kind == "calibrate":
        found: dict[str, tuple[int, ...]] = {PROBABILITIES: (c, c)}
        if plan.calibration.unseen_sites:
            found |= {SCORE_SUMS: (c, c), SCORE_PRODUCTS: (c * (c + 1) // 2,)}
        return found
    return {CONFUSION: (c, c), SCORES: (c, 2, len(nodes(c)))}


def nodes(classes: int) -> Floats:
    """``(B,)`` probabilities, ascending from 0 to 1, between which a score is shared."""
    inner = [1 / (1 + (classes - 1) * math.exp(-odds)) for odds in _NODE_LOG_ODDS]
    return np.array([0.0, *inner, 1.0])


def weight(array: str, classes: int, *, unseen_sites: bool = False) -> float:
    """What one patient adds to ``array`` where the plain count would rise by one.

    ``unseen_sites``: whether the calibration has three arrays, not one. A sum of scores rises by
    one where a patient has a score of ``scores_radius``, their products where it is its square.
    """
    parts = classes if array == SCORES else 1
    shares = _SQUARED_SHARE_UNSEEN if unseen_sites else _SQUARED_SHARE
    return (1 - SENSITIVITY_MARGIN) * math.sqrt(shares.get(array, 1.0) / parts)


def patient_vectors(
    kind: Statistics, y: Ints, p: Floats, plan: FederationPlan, deviation: Floats | None = None
) -> Floats:
    """``(N, V)``: the arrays of each patient, flat, in the order of :func:`shapes`.

    For ``evaluate`` and ``calibrate``; moments have
    :func:`shared_model.adaptation.moments.patient_vectors`.

    Args:
        y: ``(N,)`` true classes in 0..C-1.
        p: ``(N, C)`` mean class probabilities of each patient. A row that is not a finite
            distribution gives a row of zeros: a model that diverges on one patient must neither
            break the bound nor show.
        plan: fixes the arrays.
        deviation: ``(N,)`` see :func:`shared_model.adaptation.scores.scores`; for a calibration
            that serves unseen sites. None: zeros.

    Every row depends on its own patient alone and has L2 norm below one.
    """
    c = classes(plan)
    p = np.asarray(p, dtype=np.float64).reshape(-1, c)
    with np.errstate(invalid="ignore"):
        # False for NaN, and an infinity does not sum to one.
        usable = np.asarray((p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1) < 1e-6))
    safe = np.where(usable[:, None], p, 1 / c)
    rows = np.arange(len(y))
    if kind == "calibrate":
        summed = np.zeros((len(y), c, c))
        unseen = plan.calibration.unseen_sites
        summed[rows, y] = weight(PROBABILITIES, c, unseen_sites=unseen) * safe
        parts: list[Floats] = [summed]
        if unseen:
            parts += _score_moments(y, safe, deviation, plan)
    else:
        confusion = np.zeros((len(y), c, c))
        confusion[rows, y, safe.argmax(1)] = weight(CONFUSION, c)
        scores = np.zeros((len(y), c, 2, len(nodes(c))))
        true = (y[:, None] == np.arange(c)).astype(np.int64)
        shared = weight(SCORES, c) * _shared_between_nodes(safe, nodes(c))
        np.put_along_axis(scores, true[..., None, None], shared[:, :, None], 2)
        parts = [confusion, scores]
    flat = np.concatenate(
        [part.reshape(len(y), math.prod(part.shape[1:])) for part in parts], axis=1
    )
    return np.where(usable[:, None], flat, 0.0)


def split(
    kind: Statistics, flat: npt.NDArray[np.float32], plan: FederationPlan
) -> dict[str, npt.NDArray[np.float32]]:
    """The named arrays of a flat sum ``(V,)``."""
    out, start = {}, 0
    for name, shape in shapes(plan, kind).items():
        size = math.prod(shape)
        out[name] = flat[start : start + size].reshape(shape).copy()
        start += size
    return out


def noise_multiplier(plan: FederationPlan, kind: Statistics) -> float:
    """Standard deviation of the noise on every number of one release of a site."""
    if kind == "calibrate":
        return plan.calibration.noise_multiplier
    if kind == "moments":
        return plan.adaptation.moments_noise_multiplier
    return plan.evaluation.release_noise_multiplier


def norm_bound(plan: FederationPlan, site: str, kind: Statistics) -> float:
    """A public bound on the L2 norm of an honest release of ``site``.

    It holds for up to twice the patients that the declared training size stands for, and for the
    noise up to a probability of exp(-32): a normal vector of P numbers is longer than sqrt(P) + 8
    that rarely.
    """
    patients = 2.0 * plan.site(site).declared_patients
    if kind == "evaluate":
        fraction = plan.evaluation.test_fraction
        patients *= max(1.0, fraction / (1 - fraction))
    numbers = sum(math.prod(shape) for shape in shapes(plan, kind).values())
    return patients + noise_multiplier(plan, kind) * (math.sqrt(numbers) + 8.0)


def products(z: Floats) -> Floats:
    """``(N, D (D + 1) / 2)``: the upper triangle of each row's ``z z'``, with its Frobenius norm.

    What stands off the diagonal occurs twice in ``z z'``: it is multiplied by the root of two.
    """
    row, column = np.triu_indices(z.shape[1])
    twice = np.where(row == column, 1.0, math.sqrt(2.0))
    out: Floats = z[:, row] * z[:, column] * twice
    return out


def _score_moments(
    y: Ints, p: Floats, deviation: Floats | None, plan: FederationPlan
) -> list[Floats]:
    c, radius = classes(plan), plan.calibration.scores_radius
    sizes = np.zeros(len(y))
    if deviation is not None:
        sizes = np.clip(np.nan_to_num(deviation, posinf=0.0, neginf=0.0), -50.0, 50.0)
    z = patient_scores(p, sizes, radius) / radius  # of norm at most one, and so are its products
    sums = np.zeros((len(y), c, z.shape[1]))
    sums[np.arange(len(y)), y] = weight(SCORE_SUMS, c, unseen_sites=True) * z
    return [sums, weight(SCORE_PRODUCTS, c, unseen_sites=True) * products(z)]


def _shared_between_nodes(p: Floats, at: Floats) -> Floats:
    """``(..., B)``: each score split between its two nodes so that the mean is the score itself.

    The two parts sum to one, so their norm is at most one, and no resolution is lost where a
    histogram of whole patients would see one bin only.
    """
    upper = np.clip(np.searchsorted(at, p, side="right"), 1, len(at) - 1)
    low, high = at[upper - 1], at[upper]
    share = np.clip((p - low) / (high - low), 0.0, 1.0)
    out = np.zeros((*p.shape, len(at)))
    np.put_along_axis(out, (upper - 1)[..., None], (1 - share)[..., None], -1)
    np.put_along_axis(out, upper[..., None], share[..., None], -1)
    return out
