"""The bounded vector of one patient behind every evaluation and calibration; numpy only.

Each array is a sum over patients. One patient's arrays together have L2 norm at most one, whatever
the model says, so a Gaussian of standard deviation ``z`` on every number is the Gaussian mechanism
with noise multiplier ``z`` under add-or-remove-one-patient.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from shared_model.plan import FederationPlan

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Statistics = Literal["evaluate", "calibrate"]

CONFUSION = "confusion"
SCORES = "scores"
PROBABILITIES = "probabilities"

#: Kept below one so that rounding, of whatever order of sums, cannot reach it.
SENSITIVITY_MARGIN = 1e-6
# A third of a patient's squared norm goes to the confusion matrix, the rest to the C histograms of
# scores: an AUC needs many more of their numbers than a sensitivity of the matrix.
_SQUARED_SHARE = {CONFUSION: 1 / 3, SCORES: 2 / 3}
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
    ``calibrate``: ``probabilities (C, C)``, summed predictions by true class.
    """
    c = classes(plan)
    if kind == "calibrate":
        return {PROBABILITIES: (c, c)}
    return {CONFUSION: (c, c), SCORES: (c, 2, len(nodes(c)))}


def nodes(classes: int) -> Floats:
    """``(B,)`` probabilities, ascending from 0 to 1, between which a score is shared."""
    inner = [1 / (1 + (classes - 1) * math.exp(-odds)) for odds in _NODE_LOG_ODDS]
    return np.array([0.0, *inner, 1.0])


def weight(array: str, classes: int) -> float:
    """What one patient adds to ``array`` where the plain count would rise by one."""
    parts = classes if array == SCORES else 1
    return (1 - SENSITIVITY_MARGIN) * math.sqrt(_SQUARED_SHARE.get(array, 1.0) / parts)


def patient_vectors(kind: Statistics, y: Ints, p: Floats, plan: FederationPlan) -> Floats:
    """``(N, V)``: the arrays of each patient, flat, in the order of :func:`shapes`.

    Args:
        y: ``(N,)`` true classes in 0..C-1.
        p: ``(N, C)`` mean class probabilities of each patient. A row that is not a finite
            distribution gives a row of zeros: a model that diverges on one patient must neither
            break the bound nor show.

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
        summed[rows, y] = weight(PROBABILITIES, c) * safe
        parts: list[Floats] = [summed]
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
