"""Calibration slope and intercept: a logistic regression of the event on the logit (Cox 1958).

``logit P(event) = intercept + slope * logit(predicted)``, maximum likelihood, both free. Slope 1
and intercept 0 are calibrated; a slope below 1 is over-confident, above 1 under-confident.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared_model.metrics.arrays import SMALLEST_PROBABILITY, Floats, Ints, everybody

_STEPS = 100
_LONGEST = 10.0
_TINY = 1e-280
#: Logits this near are one.
_SAME = 1e-9


@dataclass(frozen=True)
class CalibrationLine:
    """Slope and intercept; both NaN where the patients do not determine them."""

    slope: float
    intercept: float


def calibration_line(event: Floats, probability: Floats) -> CalibrationLine:
    """Line for events ``(N,)`` of 0 or 1 and their predicted probabilities ``(N,)``.

    NaN where all have or all lack the event, or where a threshold on the probability separates
    those who have it from the others (then no finite slope is the most likely).
    """
    slope, intercept = calibration_line_over(event, probability, everybody(len(event)))[0]
    return CalibrationLine(float(slope), float(intercept))


def calibration_lines(y: Ints, p: Floats) -> tuple[CalibrationLine, ...]:
    """C lines, each class against the rest: event ``y == c``, predictor ``logit p(c)``."""
    return tuple(calibration_line((y == c).astype(np.float64), p[:, c]) for c in range(p.shape[1]))


def confidence_line(y: Ints, p: Floats) -> CalibrationLine:
    """The line of the top label: event "the decision is right", predictor its probability."""
    return calibration_line((p.argmax(1) == y).astype(np.float64), p.max(1))


def calibration_line_over(event: Floats, probability: Floats, counts: Floats) -> Floats:
    """``(D, 2)`` slopes and intercepts of the draws in ``counts`` ``(D, N)``."""
    c = np.asarray(counts, dtype=np.float64)
    raw = _logit(probability)
    out = np.full((len(c), 2), np.nan)
    # Without an overlap the search would run to its end and find nothing.
    determined = _overlap(event, raw, c)
    if determined.any():
        centre, scale = float(raw.mean()), float(raw.std()) or 1.0
        beta = _most_likely(event, (raw - centre) / scale, c[determined])
        slope = beta[:, 1] / scale
        out[determined] = np.stack([slope, beta[:, 0] - slope * centre], axis=1)
    return out


def _most_likely(event: Floats, x: Floats, c: Floats) -> Floats:
    """``(D, 2)`` intercepts and slopes in standardised ``x``, by Newton's method."""
    beta = np.zeros((len(c), 2))
    likelihood = _log_likelihood(beta, x, event, c)
    for _ in range(_STEPS):
        predicted = _sigmoid(beta[:, :1] + beta[:, 1:] * x)
        residual, weight = c * (event - predicted), c * predicted * (1 - predicted)
        mass = np.maximum(weight.sum(1), _TINY)
        # Around the weighted mean of x the two directions do not mix, and nothing cancels.
        middle = weight @ x / mass
        spread = (weight * (x - middle[:, None]) ** 2).sum(1)
        up, along = residual.sum(1), (residual * (x - middle[:, None])).sum(1)
        slope = along / np.maximum(spread, _TINY)
        step = np.stack([up / mass - middle * slope, slope], axis=1)
        step /= np.maximum(1, np.linalg.norm(step, axis=1, keepdims=True) / _LONGEST)
        for _ in range(30):  # the likelihood is concave: a shorter step always goes up
            tried = _log_likelihood(beta + step, x, event, c)
            worse = tried < likelihood - 1e-9 * (1 + np.abs(likelihood))
            if not worse.any():
                break
            step[worse] /= 2
        beta, likelihood = beta + step, tried
        if np.abs(step).max(initial=0) < 1e-10:
            break
    return beta


def _overlap(event: Floats, x: Floats, counts: Floats) -> np.ndarray:
    """``(D,)``: neither direction of ``x`` separates the two kinds, so there is a finite maximum.

    Silvapulle 1981, for one predictor.
    """
    ends = []
    for kind in (event > 0.5, event <= 0.5):
        present = (counts > 0) & kind
        ends.append(np.where(present, x, np.inf).min(1))
        ends.append(np.where(present, x, -np.inf).max(1))
    low1, high1, low0, high0 = ends
    # Equal probabilities that were computed in two ways differ in their last bits; taken for an
    # overlap, they would give a slope as long as the search for it.
    with np.errstate(invalid="ignore"):  # a kind that nobody has: no overlap
        return np.asarray((high0 - low1 > _SAME) & (high1 - low0 > _SAME))


def _log_likelihood(beta: Floats, x: Floats, event: Floats, counts: Floats) -> Floats:
    z = beta[:, :1] + beta[:, 1:] * x
    total: Floats = (counts * (event * z - np.logaddexp(0, z))).sum(1)
    return total


def _sigmoid(z: Floats) -> Floats:
    out: Floats = np.exp(-np.logaddexp(0, -z))
    return out


def _logit(probability: Floats) -> Floats:
    q = np.clip(probability, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    out: Floats = np.log(q) - np.log1p(-q)
    return out
