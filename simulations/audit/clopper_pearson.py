"""Exact one-sided bounds on a probability from counts (Clopper and Pearson 1934)."""

from __future__ import annotations

import math

from scipy.stats import beta


def lower_bound(hits: int, trials: int, error: float) -> float:
    """The probability that exceeds the truth with probability at most ``error``; 0 without hits."""
    return float(beta.ppf(error, hits, trials - hits + 1)) if hits else 0.0


def upper_bound(hits: int, trials: int, error: float) -> float:
    """The probability that falls below the truth with probability at most ``error``."""
    return float(beta.ppf(1 - error, hits + 1, trials - hits)) if hits < trials else 1.0


def epsilon_from_rates(tpr: float, fpr: float, delta: float) -> float:
    """The smallest epsilon at which ``(epsilon, delta)``-DP allows these two rates.

    Both ways round: members against outsiders, and outsiders against members.
    """
    found = 0.0
    for above, below in ((tpr, fpr), (1 - fpr, 1 - tpr)):
        if above > delta:
            ratio = (above - delta) / below if below > 0 else math.inf
            found = max(found, math.log(ratio) if ratio > 0 else 0.0)
    return found
