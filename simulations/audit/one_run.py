"""A lower bound on epsilon from the guesses of one training run (Steinke, Nasr, Jagielski 2023)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

Floats = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]

#: Shares of the canaries that are guessed, the rest is left out; fixed before any score is seen.
SHARES = (1.0, 0.5, 0.25, 0.125)
_LARGEST_EPSILON = 50.0


@dataclass(frozen=True)
class Guesses:
    """``right`` of ``made`` guesses about ``canaries`` canaries, each in or out by a fair coin."""

    canaries: int
    made: int
    right: int


def guess(scores: Floats, included: Bits, share: float) -> Guesses:
    """Call the highest scores members and the lowest outsiders, and count.

    Args:
        scores: ``(m,)``, higher means more likely a member.
        included: ``(m,)`` the coins.
        share: of the canaries that are guessed, half on each side.
    """
    half = max(1, int(len(scores) * share / 2))
    order = np.argsort(scores, kind="stable")
    right = int(included[order[-half:]].sum() + (~included[order[:half]]).sum())
    return Guesses(len(scores), 2 * half, right)


def p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """How likely at least as many right guesses are, at most, when training is (epsilon, delta)-DP.

    Theorem 5.2 of the paper, for any mechanism and any way of guessing: under ``epsilon`` alone the
    count is dominated by a binomial with the accuracy of randomised response; ``delta`` adds
    ``2 m delta`` times the largest mean mass below the count.
    """
    m, r, v = guesses.canaries, guesses.made, guesses.right
    accuracy = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(v - 1, r, accuracy))
    below = np.cumsum(binom.pmf(np.arange(v - 1, -1, -1), r, accuracy))
    worst = float(np.max(below / np.arange(1, v + 1))) if v else 0.0
    return min(1.0, tail + worst * delta * 2 * m)


def epsilon_lower_bound(guesses: Guesses, delta: float, error: float) -> float:
    """The largest epsilon that these guesses reject with error probability ``error``."""
    return largest_rejected(lambda epsilon: p_value(guesses, epsilon, delta) <= error)


def best_lower_bound(
    scores: Floats, included: Bits, delta: float, error: float, shares: Sequence[float] = SHARES
) -> tuple[float, Guesses]:
    """The best bound over the shares, each tested at ``error / len(shares)`` (Bonferroni)."""
    found = [
        (epsilon_lower_bound(made, delta, error / len(shares)), made)
        for made in (guess(scores, included, share) for share in shares)
    ]
    return max(found, key=lambda item: item[0])


def most_provable(canaries: int, delta: float, error: float) -> float:
    """The bound when every guess is right: a claim above it cannot be refuted by this many."""
    return epsilon_lower_bound(Guesses(canaries, canaries, canaries), delta, error)


def largest_rejected(rejected: Callable[[float], bool], tolerance: float = 1e-3) -> float:
    """The largest epsilon that a test rejects, 0 when it does not reject that; by bisection."""
    low, high = 0.0, _LARGEST_EPSILON
    if not rejected(low):
        return 0.0
    while high - low > tolerance:
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low
