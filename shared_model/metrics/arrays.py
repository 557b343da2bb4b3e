"""What every metric takes: labels, probabilities, and how often a patient counts in each draw.

A metric over draws takes ``counts`` ``(D, N)``: how often draw d holds patient n (see
:mod:`shared_model.metrics.bootstrap`). All patients once is one draw of ones, so the estimate and
its bootstrap are the same code.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from shared_model.errors import SmrfedError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Metric = Callable[[Ints, Floats], float]
# Of labels (N,), probabilities (N, C) and counts (D, N): (D,), a value for each draw.
MetricOver = Callable[[Ints, Floats, Floats], Floats]

# A probability of nought is taken as this where its logarithm is needed, as in scikit-learn.
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)


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


def everybody(n: int) -> Floats:
    """Counts ``(1, N)`` of the one draw that holds every patient once."""
    return np.ones((1, n))


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Floats:
    """Quotient by element (broadcast); NaN where the denominator is not above nought."""
    top, bottom = np.broadcast_arrays(
        np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    )
    out = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return out


def _refuse(expected: str, found: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E607",
        "labels and probabilities cannot be scored",
        expected=expected,
        found=found,
        remedy="pass one row of class probabilities per patient, and labels in the same order",
    )
