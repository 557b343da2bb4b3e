"""Bootstrap over patients: draws, percentile intervals, paired differences on the same draws.

A draw resamples patients with replacement inside each stratum (site and class), so that every
stratum keeps its size. Draws are either indices ``(D, N)`` or counts ``(D, N)``; counts let every
metric work on all draws at once. Arms that are compared take the same draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_model.metrics.arrays import Floats, Ints, MetricOver, everybody

DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """An estimate with its percentile interval; NaN where the data do not determine it."""

    estimate: float
    low: float
    high: float


def strata(y: Ints, site: npt.ArrayLike | None = None) -> Ints:
    """``(N,)`` number of each patient's stratum: the class, within the site if sites are given."""
    if site is None:
        cell = y
    else:
        place = np.unique(np.asarray(site), return_inverse=True)[1].astype(np.int64)
        cell = place * (int(y.max(initial=0)) + 1) + y
    number: Ints = np.unique(cell, return_inverse=True)[1].astype(np.int64)
    return number


def draw_counts(
    y: Ints, site: npt.ArrayLike | None = None, *, draws: int = DRAWS, seed: int = 0
) -> Floats:
    """``(draws, N)``: how often each draw holds each patient, stratified by site and class.

    A stratum of one patient never varies and one of n patients varies by ``(n - 1) / n`` too
    little: intervals over tiny strata are too narrow.
    """
    rng = np.random.default_rng(seed)
    stratum = strata(y, site)
    out = np.empty((draws, len(y)))
    for s in range(int(stratum.max(initial=-1)) + 1):
        members = np.flatnonzero(stratum == s)
        out[:, members] = rng.multinomial(
            len(members), np.full(len(members), 1 / len(members)), draws
        )
    return out


def over_draws(
    function: Callable[[Floats], dict[str, Floats]], counts: Floats, chunk: int = 250
) -> dict[str, Floats]:
    """``{name: (D,)}`` of a function of counts, a chunk of draws at a time to bound the memory."""
    parts = [function(counts[i : i + chunk]) for i in range(0, len(counts), chunk)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def percentile_interval(
    estimate: float, values: npt.ArrayLike, confidence: float = 0.95
) -> Interval:
    """Percentile interval of an estimate from its values ``(D,)`` over the draws.

    A draw that does not determine the value counts as one beyond either end, so the interval gets
    wider; where half of ``1 - confidence`` of the draws or more are such, it is NaN.
    """
    v = np.asarray(values, dtype=np.float64)
    tail = (1 - confidence) / 2
    if not np.isfinite(estimate) or v.size == 0:
        return Interval(float(estimate), float("nan"), float("nan"))
    ends = []
    for beyond, share in ((-np.inf, tail), (np.inf, 1 - tail)):
        ordered = np.sort(np.where(np.isfinite(v), v, beyond))
        position = share * (len(ordered) - 1)
        below, above = ordered[int(np.floor(position))], ordered[int(np.ceil(position))]
        defined = np.isfinite(below) and np.isfinite(above)
        ends.append(below + (position % 1) * (above - below) if defined else np.nan)
    if not np.isfinite(ends).all():
        return Interval(float(estimate), float("nan"), float("nan"))
    return Interval(float(estimate), float(ends[0]), float(ends[1]))


def stratified_draws(y: Ints, draws: int, seed: int) -> Ints:
    """``(draws, N)`` indices of patients, resampled with replacement inside each class.

    Every class keeps its size, so a draw never loses one. Methods that are compared on the same
    patients share the draws.
    """
    rng = np.random.default_rng(seed)
    out = np.empty((draws, len(y)), dtype=np.int64)
    for c in np.unique(y):
        members = np.flatnonzero(y == c)
        out[:, members] = members[rng.integers(0, len(members), (draws, len(members)))]
    return out


def counts_of(draws: Ints) -> Floats:
    """``(D, N)``: how often each draw of indices ``(D, N)`` holds each patient."""
    many, patients = draws.shape
    flat = draws + patients * np.arange(many)[:, None]
    counts = np.bincount(flat.ravel(), minlength=many * patients)
    return counts.reshape(many, patients).astype(np.float64)


def bootstrap(
    metric: MetricOver, y: Ints, p: Floats, draws: Ints, confidence: float = 0.95
) -> Interval:
    """Percentile interval of a metric over patients; one row of ``p`` is one patient."""
    return _interval(lambda counts: metric(y, p, counts), draws, confidence)


def paired_difference(
    metric: MetricOver, y: Ints, p: Floats, q: Floats, draws: Ints, confidence: float = 0.95
) -> Interval:
    """Interval of ``metric(p) - metric(q)`` for two models on the same patients and draws."""
    return _interval(lambda counts: metric(y, p, counts) - metric(y, q, counts), draws, confidence)


def _interval(value: Callable[[Floats], Floats], draws: Ints, confidence: float) -> Interval:
    (estimate,) = value(everybody(draws.shape[1]))
    drawn = over_draws(lambda counts: {"value": value(counts)}, counts_of(draws))["value"]
    return percentile_interval(float(estimate), drawn, confidence)
