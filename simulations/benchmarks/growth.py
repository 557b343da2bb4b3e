"""Growth per round: a slope within each life of a process, with an interval that is not too narrow.

A process that was restarted begins a new life with a level of its own; the slope is common to all
lives. Neighbouring samples resemble each other, so the interval counts fewer samples than there are
(first-order autocorrelation of the residuals).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

#: Samples of a life that are not looked at: a process fills its caches first.
WARM_UP = 8
_LEAST = 6


@dataclass(frozen=True)
class Growth:
    """Per round, with a 95 % interval; ``last`` and ``largest`` are levels; ``used``: samples."""

    per_round: float
    low: float
    high: float
    first: float
    last: float
    largest: float
    used: int
    lives: int


def growth(
    rounds: Sequence[float],
    values: Sequence[float],
    lives: Sequence[object],
    warm_up: int = WARM_UP,
) -> Growth | None:
    """The common slope of ``values`` over ``rounds`` within lives; none where all are too short."""
    x, y = np.asarray(rounds, float), np.asarray(values, float)
    names = np.asarray([str(life) for life in lives])
    kept: list[npt.NDArray[np.intp]] = []
    for life in dict.fromkeys(names.tolist()):
        places = np.flatnonzero(names == life)[warm_up:]
        if len(places) >= _LEAST:
            kept.append(places)
    if not kept:
        return None
    dx = np.concatenate([x[p] - x[p].mean() for p in kept])
    dy = np.concatenate([y[p] - y[p].mean() for p in kept])
    spread = float(dx @ dx)
    slope = float(dx @ dy) / spread
    residual = dy - slope * dx
    freedom = max(len(dx) - len(kept) - 1, 1)
    error = np.sqrt(float(residual @ residual) / freedom / spread)
    same = float(residual @ residual)
    after = float(residual[1:] @ residual[:-1]) / same if same > 0 else 0.0
    after = min(max(after, 0.0), 0.98)
    effective = max(freedom * (1 - after) / (1 + after), 1.0)
    error *= np.sqrt(freedom / effective)
    reach = float(stats.t.ppf(0.975, effective)) * float(error)
    return Growth(
        slope, slope - reach, slope + reach, float(y[0]), float(y[-1]), float(y.max()),
        len(dx), len(kept),
    )  # fmt: skip
