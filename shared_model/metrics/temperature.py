"""One temperature for all classes, fitted by the likelihood (Guo 2017)."""

from __future__ import annotations

import numpy as np

from shared_model.metrics.arrays import SMALLEST_PROBABILITY, Floats, Ints

BOUNDS = (0.05, 20.0)


def fitted_temperature(y: Ints, p: Floats, bounds: tuple[float, float] = BOUNDS) -> float:
    """Temperature T within ``bounds`` with the least negative log-likelihood of ``p^(1/T)``.

    The log-likelihood is concave in 1/T, so the root of its slope is bisected; a bound is returned
    where the optimum lies beyond it (every decision right: the lower one). NaN where every row is
    uniform, for then no temperature changes anything. Above 1: the model was over-confident.
    """
    log_p = _logs(p)
    if np.ptp(log_p, axis=1).max() == 0:
        return float("nan")
    cold, hot = 1 / bounds[0], 1 / bounds[1]
    if _slope(y, log_p, cold) >= 0:
        return bounds[0]
    if _slope(y, log_p, hot) <= 0:
        return bounds[1]
    low, high = hot, cold
    for _ in range(80):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if _slope(y, log_p, middle) > 0 else (low, middle)
    return float(1 / np.sqrt(low * high))


def with_temperature(p: Floats, temperature: float) -> Floats:
    """``(N, C)`` probabilities in proportion to ``p^(1/T)``; the order of classes stays."""
    return _softmax(_logs(p) / temperature)


def _slope(y: Ints, log_p: Floats, inverse: float) -> float:
    """Derivative of the log-likelihood by the inverse temperature."""
    chosen = log_p[np.arange(len(y)), y]
    return float((chosen - (_softmax(inverse * log_p) * log_p).sum(1)).sum())


def _logs(p: Floats) -> Floats:
    out: Floats = np.log(np.clip(p, SMALLEST_PROBABILITY, 1.0))
    return out


def _softmax(z: Floats) -> Floats:
    e = np.exp(z - z.max(1, keepdims=True))
    out: Floats = e / e.sum(1, keepdims=True)
    return out
