"""What a plan costs: every release counted once, training and test patients kept apart."""

from __future__ import annotations

import math
from typing import Any

import dp_accounting
import pytest
from dp_accounting import pld
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.accounting import MechanismUse, epsilon
from shared_model.privacy.plan_cost import (
    calibrate_plan_noise,
    plan_epsilon,
    planned_releases,
    release_use,
)
from shared_model.releases.schedule import calibration_due, evaluation_due, moments_due


def plan(
    mode: str = "local",
    privacy: dict[str, Any] | None = None,
    evaluation: dict[str, Any] | None = None,
    calibration: dict[str, Any] | None = None,
    adaptation: dict[str, Any] | None = None,
) -> FederationPlan:
    return FederationPlan.parse(
        {
            "name": "costs",
            "privacy": {"mode": mode}
            | ({"noise_multiplier": 5.0} if mode == "local" else {})
            | (privacy or {}),
            "training": {"rounds": 10, "local_steps": 2, "sampling_rate": 0.5},
            "evaluation": evaluation or {},
            "calibration": calibration or {},
            "adaptation": adaptation or {},
            "federation": {"sites": [{"name": "a", "declared_patients": 40}]},
        }
    )


EVALUATED = {"release_every": 4, "release_noise_multiplier": 6.0}
CALIBRATED = {"rule": "prior_free", "noise_multiplier": 7.0}
MOMENTS = {"site_moments": "linear", "moments_every": 4, "moments_noise_multiplier": 3.0}


def test_a_plan_of_rounds_alone_costs_its_steps() -> None:
    (only,) = planned_releases(plan())
    assert (only.purpose, only.count) == ("train", 10)
    assert only.use == release_use(plan(), "train") == MechanismUse(5.0, 0.5, 2)
    assert only.total == MechanismUse(5.0, 0.5, 20)
    assert plan_epsilon(plan()) == epsilon([MechanismUse(5.0, 0.5, 20)], 1e-5)
    more = plan_epsilon(plan(), spare_rounds=3)
    assert more == epsilon([MechanismUse(5.0, 0.5, 26)], 1e-5)


def test_calibration_composes_with_training_and_evaluation_stands_beside() -> None:
    whole = plan(evaluation=EVALUATED, calibration=CALIBRATED)
    counts = {release.purpose: release.count for release in planned_releases(whole)}
    # After rounds 4, 8 and the last one.
    assert counts == {"train": 10, "calibrate": 1, "evaluate": 3}
    training = epsilon([MechanismUse(5.0, 0.5, 20), MechanismUse(7.0, 1.0, 1)], 1e-5)
    testing = epsilon([MechanismUse(6.0, 1.0, 3)], 1e-5)
    assert plan_epsilon(whole) == max(training, testing) == training
    loud = plan(evaluation={"release_every": 1, "release_noise_multiplier": 1.0})
    assert plan_epsilon(loud) == epsilon([MechanismUse(1.0, 1.0, 10)], 1e-5)


def test_moments_of_training_patients_compose_with_their_training() -> None:
    whole = plan(evaluation=EVALUATED, calibration=CALIBRATED, adaptation=MOMENTS)
    counts = {release.purpose: release.count for release in planned_releases(whole)}
    # After rounds 4, 8 and the last one: a patient is in one class, so each counts once.
    assert counts == {"train": 10, "moments": 3, "calibrate": 1, "evaluate": 3}
    # Another accountant, which knows nothing of plans.
    oracle = pld.PLDAccountant()
    step = dp_accounting.PoissonSampledDpEvent(0.5, dp_accounting.GaussianDpEvent(5.0))
    oracle.compose(step, 20)
    oracle.compose(dp_accounting.GaussianDpEvent(3.0), 3)
    oracle.compose(dp_accounting.GaussianDpEvent(7.0), 1)
    assert plan_epsilon(whole) == pytest.approx(oracle.get_epsilon(1e-5), rel=2e-3)
    assert plan_epsilon(whole) > plan_epsilon(plan(calibration=CALIBRATED))
    # They are neither free nor forgotten when the noise of training is sought.
    noise = calibrate_plan_noise(plan(adaptation=MOMENTS), target_epsilon=6.0)
    assert noise > calibrate_plan_noise(plan(), target_epsilon=6.0)


@pytest.mark.parametrize("every", [1, 3, 4, 5, 10, 11])
def test_as_many_releases_are_planned_as_the_schedule_asks_for(every: int) -> None:
    whole = plan(
        evaluation={"release_every": every, "release_noise_multiplier": 6.0},
        calibration=CALIBRATED,
        adaptation=MOMENTS | {"moments_every": every},
    )
    rounds = range(1, whole.training.rounds + 1)
    counts = {release.purpose: release.count for release in planned_releases(whole)}
    assert counts["evaluate"] == sum(evaluation_due(whole, number) for number in rounds)
    assert counts["calibrate"] == sum(calibration_due(whole, number) for number in rounds)
    assert counts["moments"] == sum(moments_due(whole, number) for number in rounds)


def test_adaptive_clipping_costs_nothing_more() -> None:
    assert plan_epsilon(plan(privacy={"clipping": "adaptive"})) == plan_epsilon(plan())


def test_a_plan_without_privacy_or_with_an_unnoised_release_has_no_epsilon() -> None:
    assert plan_epsilon(plan("none")) == math.inf
    unnoised = MechanismUse(0.0, 1.0, 1)
    assert epsilon([release_use(plan(), "train"), unnoised], 1e-5) == math.inf


@settings(max_examples=5, deadline=None)
@given(st.sampled_from([1.0, 3.0, 8.0]), st.booleans(), st.integers(0, 3))
def test_calibrated_noise_keeps_the_whole_plan_in_budget_and_is_no_larger_than_needed(
    target: float, calibrated: bool, spare: int
) -> None:
    wanted = plan(calibration={**CALIBRATED, "noise_multiplier": 10.0} if calibrated else None)
    noise = calibrate_plan_noise(wanted, target_epsilon=target, spare_rounds=spare)

    def with_noise(multiplier: float) -> float:
        changed = wanted.privacy.model_copy(update={"noise_multiplier": multiplier})
        return plan_epsilon(wanted.model_copy(update={"privacy": changed}), spare_rounds=spare)

    assert with_noise(noise) <= target < with_noise(noise / 1.02)


def test_noise_of_the_other_releases_is_found_beside_the_training() -> None:
    wanted = plan(
        privacy={"epsilon": 3.0, "noise_multiplier": 8.0},
        evaluation=EVALUATED,
        calibration=CALIBRATED,
    )
    released = calibrate_plan_noise(wanted, "evaluate")
    assert epsilon([MechanismUse(released, 1.0, 3)], 1e-5) <= 3.0
    once = calibrate_plan_noise(wanted, "calibrate")
    train = MechanismUse(8.0, 0.5, 20)
    assert epsilon([train, MechanismUse(once, 1.0, 1)], 1e-5) <= 3.0
    assert epsilon([train, MechanismUse(once / 1.02, 1.0, 1)], 1e-5) > 3.0
    assert calibrate_plan_noise(plan(), "calibrate") == 0.0


def test_a_budget_that_the_other_releases_spend_alone_is_refused() -> None:
    wanted = plan(
        privacy={"epsilon": 0.2},
        calibration={"rule": "prior_free", "noise_multiplier": 1.0},
    )
    with pytest.raises(SmrfedError, match="SMR-E301") as refusal:
        calibrate_plan_noise(wanted)
    assert "beside epsilon" in str(refusal.value)
