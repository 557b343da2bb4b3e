"""How well scores tell members from outsiders: AUROC and true positives at few false ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import rankdata

from simulations.audit.clopper_pearson import lower_bound, upper_bound
from simulations.audit.one_run import Floats

FALSE_POSITIVE_RATES = (0.001, 0.01)


class RateAt(BaseModel):
    """True-positive rate at an allowed false-positive rate, with a 95 % interval.

    The interval is Clopper and Pearson's for the threshold that was found; it covers the luck of
    the members, not that of the threshold. ``false_positives`` is how many outsiders were above.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    false_positive_rate: float
    true_positive_rate: float
    low: float
    high: float
    false_positives: int
    resolved: bool = Field(
        description="whether there are enough outsiders for the rate to allow one of them"
    )


class Membership(BaseModel):
    """One membership attack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    members: int
    outsiders: int
    auroc: float
    auroc_low: float
    auroc_high: float
    rates: tuple[RateAt, ...]
    curve: tuple[tuple[float, float], ...] = Field(description="false and true positive rates")


def auroc(inside: Floats, outside: Floats) -> float:
    """Probability that a member scores above an outsider, ties counted half."""
    ranks = rankdata(np.concatenate([inside, outside]))
    n, m = len(inside), len(outside)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def rate_at(inside: Floats, outside: Floats, false_positive_rate: float) -> RateAt:
    """Members above the smallest threshold that at most this share of outsiders exceeds."""
    allowed = int(np.floor(false_positive_rate * len(outside)))
    threshold = np.sort(outside)[::-1][allowed]
    hits = int((inside > threshold).sum())
    return RateAt(
        false_positive_rate=false_positive_rate,
        true_positive_rate=hits / len(inside),
        low=lower_bound(hits, len(inside), 0.025),
        high=upper_bound(hits, len(inside), 0.025),
        false_positives=int((outside > threshold).sum()),
        resolved=allowed > 0,
    )


def membership(
    title: str,
    inside: Floats,
    outside: Floats,
    seed: int,
    draws: int = 1000,
    rates: Sequence[float] = FALSE_POSITIVE_RATES,
) -> Membership:
    """All figures of an attack; the interval of the AUROC is a bootstrap over patients."""
    rng = np.random.default_rng(seed)
    drawn = [
        auroc(rng.choice(inside, len(inside)), rng.choice(outside, len(outside)))
        for _ in range(draws)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    thresholds = np.concatenate([[np.inf], np.sort(np.concatenate([inside, outside]))[::-1]])
    curve = tuple((float((outside >= t).mean()), float((inside >= t).mean())) for t in thresholds)
    return Membership(
        title=title,
        members=len(inside),
        outsiders=len(outside),
        auroc=auroc(inside, outside),
        auroc_low=float(low),
        auroc_high=float(high),
        rates=tuple(rate_at(inside, outside, rate) for rate in rates),
        curve=curve,
    )
