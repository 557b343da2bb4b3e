"""Epsilon as two fitted normals give it: an estimate, no bound (Andrew et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr
from scipy.stats import norm

from simulations.audit.one_run import Bits, Floats


@dataclass(frozen=True)
class GaussianFit:
    """Means of members and outsiders apart by ``separation`` standard deviations, with epsilon.

    ``low`` and ``high`` are the 95 % bootstrap interval of epsilon over canaries.
    """

    separation: float
    epsilon: float
    low: float
    high: float


def gaussian_epsilon(separation: float, delta: float) -> float:
    """Epsilon of the Gaussian mechanism with this sensitivity over noise (Balle and Wang 2018)."""
    mu = abs(separation)
    if mu == 0:
        return 0.0
    if math.isinf(mu):
        return math.inf

    def excess(epsilon: float) -> float:
        second = math.exp(min(epsilon + log_ndtr(-mu / 2 - epsilon / mu), 0.0))
        return float(norm.cdf(mu / 2 - epsilon / mu)) - second - delta

    if excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, mu * mu + 10 * mu + 10, xtol=1e-6))


def fit(scores: Floats, included: Bits, delta: float, seed: int, draws: int = 500) -> GaussianFit:
    """Fit a normal of common variance to the scores of members and of outsiders.

    Assumes that the scores are normal and independent over canaries, which is what honest Gaussian
    noise makes of orthogonal canaries; a broken mechanism owes us neither.
    """
    inside, outside = scores[included], scores[~included]
    rng = np.random.default_rng(seed)
    drawn = [
        gaussian_epsilon(
            _separation(rng.choice(inside, len(inside)), rng.choice(outside, len(outside))), delta
        )
        for _ in range(draws)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    separation = _separation(inside, outside)
    return GaussianFit(separation, gaussian_epsilon(separation, delta), float(low), float(high))


def _separation(inside: Floats, outside: Floats) -> float:
    spread = math.sqrt((inside.var(ddof=1) + outside.var(ddof=1)) / 2)
    distance = max(0.0, float(inside.mean() - outside.mean()))
    if spread == 0:
        return math.inf if distance > 0 else 0.0
    return distance / spread
