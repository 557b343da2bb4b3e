"""Items 1 and 2 in privacy mode ``local``: what the noise of the moments leaves of layer B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import calibrate_plan_noise, plan_epsilon
from simulations.battery.measures import Measured
from simulations.battery.result import BatteryResult
from simulations.battery.seed import BatterySeed
from simulations.battery.site_alignment import alignment_results, measure_plan
from simulations.demo.settings import SPARE_ROUNDS, DemoSettings

#: Two releases: the head has the second half of the rounds to learn from shifted embeddings.
_MOMENTS = {"moments_every": 15, "moments_noise_multiplier": 3.3, "moments_radius": 8.0}
PRIVATE_ARMS: dict[str, dict[str, Any]] = {
    "off": {"site_moments": "off"},
    "shift": {"site_moments": "shift"} | _MOMENTS,
    "affine": {"site_moments": "affine"} | _MOMENTS,
}


def private_plan(plan: FederationPlan, adaptation: Mapping[str, Any]) -> FederationPlan:
    """The plan with privacy at the demonstration's epsilon, over training and moments together."""
    settings = DemoSettings()
    data = plan.model_dump(mode="json")
    data["privacy"] |= {
        "mode": "local",
        "epsilon": settings.epsilon,
        "delta": settings.delta,
        "noise_multiplier": 1.0,
    }
    data["training"]["learning_rate"] = settings.private_learning_rate
    data["adaptation"] |= {"personalise": "never", **adaptation}
    noise = calibrate_plan_noise(FederationPlan.parse(data), spare_rounds=SPARE_ROUNDS)
    data["privacy"]["noise_multiplier"] = round(noise, 4)
    return FederationPlan.parse(data)


def measure_private(data: BatterySeed, arms: Sequence[str], folds: int = 4) -> dict[str, Measured]:
    """Each arm trained with noise, as hospitals would; every patient is tested once."""
    chosen = ("off", *(arm for arm in arms if arm in PRIVATE_ARMS))
    plans = {arm: private_plan(data.plan, PRIVATE_ARMS[arm]) for arm in chosen}
    return {arm: measure_plan(data, plan, folds) for arm, plan in plans.items()}


def private_results(
    data: BatterySeed, seeds: Mapping[int, Mapping[str, Measured]], arm: str
) -> list[BatteryResult]:
    """The same items and bars, under other names, with what the plan spends."""
    spent = plan_epsilon(private_plan(data.plan, PRIVATE_ARMS[arm]), spare_rounds=SPARE_ROUNDS)
    return [
        found.model_copy(
            update={
                "name": f"{found.name}, epsilon {DemoSettings().epsilon:g}",
                "figures": found.figures | {"epsilon of the plan": spent},
                "note": f"{found.note}; noise is drawn without a seed, so a repetition differs",
            }
        )
        for found in alignment_results(data.scenario, seeds, arm)
    ]
