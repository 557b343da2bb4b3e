"""Intervals for ratios of noised counts: sampling and noise together, no simulation.

A figure ``t`` (a sensitivity, an AUC) solves ``L(t) = numerator - t * denominator = 0``, where both
are sums of noised counts. The interval holds every ``t`` that the data do not reject:
``L(t)^2 <= z^2 V(t)``, with ``V(t)`` the variance of ``L`` *if ``t`` were true* (Fieller 1954 for
ratios, Wilson 1927 for shares). It stays honest where a normal interval does not: for few patients,
near 0 and 1, and where the noise hides the denominator (then it is everything).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_STEPS = 2000
# Counts are of the order of one: a smaller variance is that of a float.
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; ``value`` is none where the noise hides the patients."""

    value: float | None
    low: float
    high: float

    @property
    def centre(self) -> float:
        """The value, or the middle of the interval when there is none."""
        return (self.low + self.high) / 2 if self.value is None else self.value


def z_score(confidence: float = 0.95) -> float:
    """Two-sided quantile of the standard normal."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def not_rejected(
    value: float | None,
    linear: Callable[[Floats], Floats],
    variance: Callable[[Floats], Floats],
    *,
    z: float,
    low: float = 0.0,
    high: float = 1.0,
) -> Estimate:
    """All ``t`` in ``[low, high]`` that are not rejected, as one interval around ``value``.

    The best ``t`` of the range is what the others are compared with, ``linear^2 / variance`` being
    at most ``z^2`` above its own: nothing changes where the data fit some ``t``, and where noise
    has carried them out of the range (an "AUC" of 1.05) the interval ends at its edge.
    """
    grid = np.linspace(low, high, _STEPS + 1)
    if value is not None:
        grid = np.sort(np.append(grid, value))
    ratio = linear(grid) ** 2 / np.maximum(variance(grid), _NEGLIGIBLE)
    kept = grid[ratio <= z**2 + ratio.min()]
    step = (high - low) / _STEPS
    ends = [float(kept[0]), float(kept[-1])]
    if value is not None:
        ends = [min(ends[0], value), max(ends[1], value)]
    return Estimate(value, max(low, ends[0] - step), min(high, ends[1] + step))


def mean_of(parts: Sequence[Estimate], *, low: float = 0.0, high: float = 1.0) -> Estimate:
    """The mean of independent figures (MOVER, Zou and Donner 2008).

    A figure without a value may lie anywhere in its interval: nothing averages out.
    """
    count = len(parts)
    centre = sum(part.centre for part in parts) / count
    known = all(part.value is not None for part in parts)
    add = math.hypot if known else lambda *widths: math.fsum(widths)
    below = add(*(part.centre - part.low for part in parts)) / count
    above = add(*(part.high - part.centre for part in parts)) / count
    return Estimate(centre if known else None, max(low, centre - below), min(high, centre + above))


def worst_of(parts: Sequence[Estimate]) -> Estimate:
    """The smallest of several figures, from *simultaneous* intervals; none if one is unknown."""
    values = [part.value for part in parts]
    known = [value for value in values if value is not None]
    return Estimate(
        min(known) if len(known) == len(values) else None,
        min(part.low for part in parts),
        min(part.high for part in parts),
    )
