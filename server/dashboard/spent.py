"""Epsilon by public accounting: what a plan will cost its worst patient, and has so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from server.rounds.records import RoundRecord
from shared_model.local_page.background import Background
from shared_model.plan import FederationPlan
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.plan_cost import (
    TOUCHES_TEST,
    TOUCHES_TRAINING,
    Purpose,
    plan_epsilon,
    release_use,
)

_PURPOSES: tuple[Purpose, ...] = (*TOUCHES_TRAINING, *TOUCHES_TEST)


@dataclass(frozen=True)
class Asked:
    """How often a hospital's patients were asked for each purpose."""

    train: int = 0
    moments: int = 0
    calibrate: int = 0
    evaluate: int = 0

    def plus(self, **more: int) -> Asked:
        """So many more."""
        return Asked(**{p: getattr(self, p) + more.get(p, 0) for p in _PURPOSES})


def asked_of(site: str, records: tuple[RoundRecord, ...]) -> Asked:
    """Counted in the exchanges: whatever was sent to a site may have been charged there."""
    counts: dict[str, int] = dict.fromkeys(_PURPOSES, 0)
    for record in records:
        outcome = record.sites.get(site)
        if outcome is not None and outcome.pushes and record.kind in counts:
            counts[record.kind] += 1
    return Asked(**counts)


def most_asked(asked: Mapping[str, Asked]) -> Asked:
    """The worst over the sites, purpose by purpose."""
    return Asked(**{p: max((getattr(a, p) for a in asked.values()), default=0) for p in _PURPOSES})


def planned_epsilon(plan: FederationPlan, later: Background) -> float | None:
    """Of the whole plan; None in mode ``none``, and while it is being computed."""
    if plan.privacy.mode == "none":
        return None
    return later.get(("planned", plan.digest), lambda: _finite(plan_epsilon(plan)))


def spent_epsilon(plan: FederationPlan, asked: Asked, later: Background) -> float | None:
    """Of the releases asked for; None as :func:`planned_epsilon`."""
    if plan.privacy.mode == "none":
        return None
    return later.get(("spent", plan.digest, asked), lambda: _spent(plan, asked))


def _spent(plan: FederationPlan, asked: Asked) -> float | None:
    sides = []
    for side in (TOUCHES_TRAINING, TOUCHES_TEST):
        uses = []
        for purpose in side:
            count = getattr(asked, purpose)
            if count:
                use = release_use(plan, purpose)
                uses.append(type(use)(use.noise_multiplier, use.sampling_rate, use.steps * count))
        sides.append(epsilon(uses, plan.privacy.delta))
    return _finite(max(sides))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
