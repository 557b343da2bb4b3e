"""What a plan would cost this hospital's patients, before anybody agrees to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from client.privacy.per_patient import Exposure, exposure_epsilon, worst_epsilon
from shared_model.plan import FederationPlan
from shared_model.privacy.accounting import MechanismUse
from shared_model.privacy.plan_cost import TOUCHES_TEST, TOUCHES_TRAINING, Purpose, planned_releases
from shared_model.releases.schedule import moments_count

Exposed = Mapping[Exposure, int]


@dataclass(frozen=True)
class Side:
    """What the patients of one side of the split were exposed to: by everything, by this plan."""

    everything: Exposed
    this_plan: Exposed

    @property
    def patients(self) -> int:
        """How many there are."""
        return sum(self.everything.values())


@dataclass(frozen=True)
class Forecast:
    """Epsilons of the patient who would have spent most; ``missing`` is what the caps lack.

    ``rounds_that_fit`` of ``rounds`` could be trained, with every other release that the plan has.
    ``patients_beyond`` patients would exceed the hospital's cap.
    """

    alone: float
    before: float
    after: float
    cap: float
    plan_after: float
    plan_cap: float
    rounds: int
    rounds_that_fit: int
    patients_beyond: int

    @property
    def missing(self) -> float:
        """By how much the tighter budget would be exceeded; 0 when nothing would be refused."""
        return max(0.0, self.after - self.cap, self.plan_after - self.plan_cap)

    @property
    def refused(self) -> bool:
        """Whether the ledger would refuse before the plan is through."""
        return self.missing > 0


def forecast(
    plan: FederationPlan, train: Side, test: Side, max_epsilon: float, rounds: int
) -> Forecast:
    """Compose ``rounds`` rounds of a plan, with all else it releases, onto what was spent.

    Nothing is read or written here; at the plan's delta, as the ledger decides.
    """
    delta = plan.privacy.delta

    def after(rounds: int, trained: Exposed, tested: Exposed) -> float:
        return max(
            worst_epsilon([_with(one, _uses(plan, side, rounds)) for one in exposed], delta)
            for side, exposed in ((TOUCHES_TRAINING, trained), (TOUCHES_TEST, tested))
        )

    def of_everything(rounds: int) -> float:
        return after(rounds, train.everything, test.everything)

    def of_this_plan(rounds: int) -> float:
        return after(rounds, train.this_plan, test.this_plan)

    def beyond() -> int:
        counts = [
            sum(
                count
                for one, count in exposed.everything.items()
                if exposure_epsilon(_with(one, _uses(plan, side, rounds)), delta) > max_epsilon
            )
            for side, exposed in ((TOUCHES_TRAINING, train), (TOUCHES_TEST, test))
        ]
        # Where nobody knows who is on which side, both are everybody.
        return max(counts) if train is test else sum(counts)

    def fits(rounds: int) -> bool:
        return of_everything(rounds) <= max_epsilon and of_this_plan(rounds) <= plan.privacy.epsilon

    low, high = 0, rounds + 1
    while high - low > 1:
        # Most often either everything fits or next to nothing.
        middle = rounds if high == rounds + 1 else (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    nobody: Exposed = {frozenset(): 1}
    return Forecast(
        alone=after(rounds, nobody, nobody),
        before=worst_epsilon([*train.everything, *test.everything], delta),
        after=of_everything(rounds),
        cap=max_epsilon,
        plan_after=of_this_plan(rounds),
        plan_cap=plan.privacy.epsilon,
        rounds=rounds,
        rounds_that_fit=low,
        patients_beyond=beyond(),
    )


def _uses(
    plan: FederationPlan, purposes: tuple[Purpose, ...], rounds: int
) -> list[tuple[MechanismUse, int]]:
    counts: dict[Purpose, int] = {"train": rounds}
    every = plan.evaluation.release_every
    if every:
        counts["evaluate"] = math.ceil(rounds / every)
    if plan.adaptation.site_moments != "off":
        counts["moments"] = moments_count(plan, rounds)
    return [
        (release.use, counts.get(release.purpose, release.count))
        for release in planned_releases(plan)
        if release.purpose in purposes
    ]


def _with(exposure: Exposure, uses: list[tuple[MechanismUse, int]]) -> Exposure:
    steps = dict(exposure)
    for use, count in uses:
        mechanism = (use.noise_multiplier, use.sampling_rate)
        steps[mechanism] = steps.get(mechanism, 0) + use.steps * count
    return frozenset(steps.items())
