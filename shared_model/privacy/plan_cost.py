"""What a federation plan costs one patient: every release that it makes, planned and composed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from shared_model.plan import FederationPlan
from shared_model.privacy.accounting import MechanismUse, calibrated, epsilon
from shared_model.releases.schedule import moments_count

Purpose = Literal["train", "moments", "calibrate", "evaluate"]

#: The releases that look at training patients, and those that look at test patients.
TOUCHES_TRAINING: tuple[Purpose, ...] = ("train", "moments", "calibrate")
TOUCHES_TEST: tuple[Purpose, ...] = ("evaluate",)


@dataclass(frozen=True)
class PlannedRelease:
    """``count`` releases of one purpose, each with the mechanism ``use``."""

    purpose: Purpose
    use: MechanismUse
    count: int

    @property
    def total(self) -> MechanismUse:
        """The mechanism of all of them together."""
        return MechanismUse(
            self.use.noise_multiplier, self.use.sampling_rate, self.use.steps * self.count
        )


def release_use(plan: FederationPlan, purpose: Purpose) -> MechanismUse:
    """The mechanism of one release: a round of training, an evaluation, the calibration, moments.

    Adaptive clipping is inside the noise multiplier (Andrew et al. 2021, theorem 1: the noised sum
    and the noised count are one Gaussian mechanism), so it costs nothing beside.

    Modes ``distributed`` and ``central``: one noised sum over all hospitals is a release of each of
    them, at the plan's multiplier (:mod:`shared_model.privacy.summed_noise`), under the trust that
    :mod:`shared_model.privacy.trust` words. With unit ``hospital`` a user is a hospital, which is
    in every round: no sampling. That figure also bounds what a patient pays: a patient moves the
    hospital's mean by at most C / (q n), and cutting to a ball moves no two points apart.
    """
    if purpose == "train":
        if plan.privacy.unit == "hospital":
            return MechanismUse(plan.privacy.noise_multiplier, 1.0, 1)
        return MechanismUse(
            plan.privacy.noise_multiplier, plan.training.sampling_rate, plan.training.local_steps
        )
    # Every patient of the side takes part: no sampling.
    if purpose == "moments":
        # A patient is in one class: the sums by class are one use, not one per class.
        return MechanismUse(plan.adaptation.moments_noise_multiplier, 1.0, 1)
    if purpose == "calibrate":
        return MechanismUse(plan.calibration.noise_multiplier, 1.0, 1)
    return MechanismUse(plan.evaluation.release_noise_multiplier, 1.0, 1)


def planned_releases(plan: FederationPlan) -> tuple[PlannedRelease, ...]:
    """Every release that one site makes when nothing has to be repeated, by purpose."""
    rounds, every = plan.training.rounds, plan.evaluation.release_every
    counts: dict[Purpose, int] = {
        "train": rounds,
        "moments": moments_count(plan),
        "calibrate": int(plan.calibration.releases),
        "evaluate": math.ceil(rounds / every) if every else 0,
    }
    return tuple(
        PlannedRelease(purpose, release_use(plan, purpose), count)
        for purpose, count in counts.items()
        if count
    )


def plan_epsilon(plan: FederationPlan, *, spare_rounds: int = 0) -> float:
    """Epsilon of the whole plan for the worst patient, at the plan's delta; ``inf`` in mode none.

    A patient is on one side: training, moments and calibration compose over training patients,
    evaluation over test patients, so the plan costs the larger of the two, not their sum. With
    ``spare_rounds``, as many rounds of training more: room for attempts that a crash loses.
    """
    return max(
        _side_epsilon(plan, TOUCHES_TRAINING, spare_rounds), _side_epsilon(plan, TOUCHES_TEST, 0)
    )


def calibrate_plan_noise(
    plan: FederationPlan,
    purpose: Purpose = "train",
    *,
    target_epsilon: float | None = None,
    spare_rounds: int = 0,
) -> float:
    """The smallest noise multiplier of one purpose (to 1 %) that keeps the whole plan in budget.

    The noise of the other purposes is taken from the plan. ``target_epsilon`` is the plan's own
    budget unless it is given; what the plan says about the multiplier that is sought plays no part.
    Raises SMR-E301 when no multiplier reaches the target, because the others spend it alone.
    """
    target = plan.privacy.epsilon if target_epsilon is None else target_epsilon
    side = TOUCHES_TRAINING if purpose in TOUCHES_TRAINING else TOUCHES_TEST
    fixed, sought = [], MechanismUse(0.0, 1.0, 0)
    for use in _side_uses(plan, side, spare_rounds):
        if use[0] == purpose:
            sought = use[1]
        else:
            fixed.append(use[1])
    return calibrated(sought, target, plan.privacy.delta, fixed)


def _side_uses(
    plan: FederationPlan, side: tuple[Purpose, ...], spare_rounds: int
) -> list[tuple[Purpose, MechanismUse]]:
    uses: list[tuple[Purpose, MechanismUse]] = []
    for planned in planned_releases(plan):
        if planned.purpose in side:
            more = spare_rounds if planned.purpose == "train" else 0
            release = PlannedRelease(planned.purpose, planned.use, planned.count + more)
            uses.append((planned.purpose, release.total))
    return uses


def _side_epsilon(plan: FederationPlan, side: tuple[Purpose, ...], spare_rounds: int) -> float:
    return epsilon([use for _, use in _side_uses(plan, side, spare_rounds)], plan.privacy.delta)
