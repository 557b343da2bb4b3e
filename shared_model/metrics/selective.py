"""What if the model may pass? Coverage-risk curve, its area, and a rule-out test.

Confidence is the largest class probability. Patients of the same confidence are accepted in random
order, and the figures are the mean over those orders, so that the order of rows plays no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared_model.metrics.arrays import Floats, Ints, everybody, ratio


@dataclass(frozen=True, eq=False)
class CoverageRisk:
    """Error rate among the k most confident patients, for k from 1 to N.

    Attributes:
        coverage: ``(N,)`` k / N.
        risk: ``(N,)`` share of wrong decisions among them.
        area: mean of ``risk`` (AURC; Geifman and El-Yaniv 2017); lower is better.
        best_area: the area of the best order of the same decisions (right ones first).
    """

    coverage: Floats
    risk: Floats
    area: float
    best_area: float


@dataclass(frozen=True)
class RuleOut:
    """Patients whose probability of disease is at most ``threshold`` are cleared, others referred.

    Attributes:
        referral_rate: share of all patients that is referred.
        npv: share of the cleared who are healthy; NaN if nobody is cleared.
        threshold: highest probability of disease that is cleared; NaN if none is.
        missed: share of the ill who are cleared.
    """

    referral_rate: float
    npv: float
    threshold: float
    missed: float


def coverage_risk(y: Ints, p: Floats) -> CoverageRisk:
    """The curve for decisions by the most probable class."""
    wrong = (p.argmax(1) != y).astype(np.float64)
    k = np.arange(1, len(y) + 1)
    mass, errors = _rising(-p.max(1), wrong, everybody(len(y)))
    risk = np.interp(k, mass[0], errors[0]) / k
    best = np.maximum(0, k - (len(y) - wrong.sum())) / k
    return CoverageRisk(k / len(y), risk, float(risk.mean()), float(best.mean()))


def aurc_over(y: Ints, p: Floats, counts: Floats) -> Floats:
    """``(D,)`` areas under the coverage-risk curve over draws ``(D, N)`` of whole counts."""
    wrong = (p.argmax(1) != y).astype(np.float64)
    mass, errors = _rising(-p.max(1), wrong, counts)
    top = int(mass[:, -1].max(initial=0))
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, top + 1))])
    at = harmonic[np.rint(mass).astype(np.int64)]
    rate = np.nan_to_num(ratio(np.diff(errors, axis=1), np.diff(mass, axis=1)))
    # Sum over k of (errors so far + rate * (k - mass so far)) / k, group by group.
    constant = errors[:, :-1] - rate * mass[:, :-1]
    total = (np.diff(errors, axis=1) + constant * np.diff(at, axis=1)).sum(1)
    return ratio(total, mass[:, -1])


def aurc(y: Ints, p: Floats) -> float:
    """Area under the coverage-risk curve; lower is better."""
    return coverage_risk(y, p).area


def rule_out(y: Ints, p: Floats, npv: float = 0.95, healthy: int = 0) -> RuleOut:
    """The rule that refers fewest patients while its NPV is at least ``npv``.

    Ill is every class but ``healthy``, the probability of disease is ``1 - p(healthy)``. The
    threshold is chosen on these patients, hence optimistic: for a claim take it from others and use
    :func:`rule_out_at`. All NaN where nobody is ill or nobody healthy; where no threshold reaches
    the NPV everybody is referred.
    """
    ill, score = _disease(y, p, healthy)
    if ill.min() == ill.max():
        return RuleOut(*(float("nan"),) * 4)
    good = [t for t in np.unique(score) if 1 - ill[score <= t].mean() >= npv - 1e-12]
    if not good:
        return RuleOut(1.0, float("nan"), float("nan"), 0.0)
    return rule_out_at(y, p, float(good[-1]), healthy)


def rule_out_at(y: Ints, p: Floats, threshold: float, healthy: int = 0) -> RuleOut:
    """What a threshold on the probability of disease that was chosen elsewhere does here."""
    ill, score = _disease(y, p, healthy)
    if ill.min() == ill.max():
        return RuleOut(*(float("nan"),) * 4)
    cleared = score <= threshold
    return RuleOut(
        referral_rate=float(1 - cleared.mean()),
        npv=float(1 - ill[cleared].mean()) if cleared.any() else float("nan"),
        threshold=threshold,
        missed=float(cleared[ill > 0].mean()),
    )


def referral_rate_over(
    y: Ints, p: Floats, counts: Floats, npv: float = 0.95, healthy: int = 0
) -> Floats:
    """``(D,)`` referral rates of the best rule of each draw; NaN as in :func:`rule_out`."""
    ill, score = _disease(y, p, healthy)
    cleared, missed = _rising(score, ill, counts)
    n, sick = cleared[:, -1], missed[:, -1]
    good = missed <= (1 - npv + 1e-12) * cleared
    rate = 1 - ratio(np.where(good, cleared, 0).max(1), n)
    return np.where((sick > 0) & (sick < n), rate, np.nan)


def _disease(y: Ints, p: Floats, healthy: int) -> tuple[Floats, Floats]:
    return (y != healthy).astype(np.float64), 1 - p[:, healthy]


def _rising(key: Floats, value: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Running mass and running sum of ``value`` ``(D, T + 1)`` over T distinct rising keys."""
    order = np.argsort(key, kind="stable")
    last = np.append(np.flatnonzero(np.diff(key[order])), len(key) - 1)
    c = np.asarray(counts, dtype=np.float64)[:, order]
    start = np.zeros((len(c), 1))
    mass = np.concatenate([start, np.cumsum(c, axis=1)[:, last]], axis=1)
    total = np.concatenate([start, np.cumsum(c * value[order], axis=1)[:, last]], axis=1)
    return mass, total
