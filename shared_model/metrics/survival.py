"""Time to an event of people followed for different times: Kaplan-Meier, and the log-rank test."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from shared_model.metrics.arrays import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class KaplanMeier:
    """Share still without the event just after each of T distinct event times.

    Attributes:
        time: ``(T,)`` increasing.
        survival: ``(T,)``.
        low, high: ``(T,)`` 95 % interval on the log(-log) scale with Greenwood's variance; NaN
            where nobody is left.
        at_risk: ``(T,)`` people just before each time.
    """

    time: Floats
    survival: Floats
    low: Floats
    high: Floats
    at_risk: Ints

    def at(self, time: float) -> float:
        """Share without the event at a time."""
        before = np.flatnonzero(self.time <= time)
        return float(self.survival[before[-1]]) if len(before) else 1.0


def kaplan_meier(time: npt.ArrayLike, event: npt.ArrayLike) -> KaplanMeier:
    """Estimate for N people (Kaplan and Meier 1958): ``S(t) = prod (1 - d_i / n_i)``.

    ``time`` ``(N,)`` is that of the event, or of the last visit where ``event`` is false. Somebody
    lost at the time of an event was at risk of it.
    """
    t, e = _checked(time, event)
    times = np.unique(t[e])
    at_risk = np.asarray([(t >= each).sum() for each in times], dtype=np.int64)
    events = np.asarray([(e & (t == each)).sum() for each in times], dtype=np.int64)
    survival: Floats = np.cumprod(1 - events / np.maximum(at_risk, 1), dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(events / (at_risk * (at_risk - events)))
        spread = NormalDist().inv_cdf(0.975) * np.sqrt(greenwood) / np.log(survival)
        low, high = survival ** np.exp(-spread), survival ** np.exp(spread)
    unknown = (survival <= 0) | (survival >= 1)
    low, high = np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)
    return KaplanMeier(times, survival, low, high, at_risk)


def log_rank(
    time: npt.ArrayLike, event: npt.ArrayLike, group: npt.ArrayLike
) -> tuple[float, float]:
    """Chi square (one degree of freedom) and p of two groups having the same course (Mantel 1966).

    ``group`` ``(N,)`` is true for one of the two. NaN where no event tells them apart.
    """
    t, e = _checked(time, event)
    g = np.asarray(group, dtype=bool)
    observed = expected = variance = 0.0
    for each in np.unique(t[e]):
        risk = t >= each
        n, n1 = int(risk.sum()), int((risk & g).sum())
        d, d1 = int((e & (t == each)).sum()), int((e & g & (t == each)).sum())
        observed, expected = observed + d1, expected + d * n1 / n
        if n > 1:
            variance += d * (n1 / n) * (1 - n1 / n) * (n - d) / (n - 1)
    if variance <= 0:
        return float("nan"), float("nan")
    chi = (observed - expected) ** 2 / variance
    return chi, 2 * (1 - NormalDist().cdf(chi**0.5))


def _checked(time: npt.ArrayLike, event: npt.ArrayLike) -> tuple[Floats, Bools]:
    t, e = np.asarray(time, dtype=np.float64), np.asarray(event, dtype=bool)
    if t.shape != e.shape or t.ndim != 1 or not np.isfinite(t).all():
        raise ValueError(f"times and events are (N,) and finite, not {t.shape} and {e.shape}")
    return t, e
