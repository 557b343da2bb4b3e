"""The plan of an arm at an epsilon, for as many hospitals, with its noise calibrated."""

from __future__ import annotations

from collections.abc import Mapping

from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import calibrate_plan_noise
from simulations.demo.settings import DemoSettings, demo_plan
from simulations.federation.secure_sum_plan import with_secure_sum
from simulations.federation.summed_plan import stand_in_key
from simulations.modes_study.settings import ARMS, ArmKey, Schedule


def study_plan(
    arm: ArmKey,
    epsilon: float | None,
    demo: DemoSettings,
    members: Mapping[str, int],
    schedule: Schedule,
) -> FederationPlan:
    """All releases of the plan together cost ``epsilon`` (none: mode ``none``); no round is spare.

    ``members``: site -> patients of its archive. One hospital may be missing in a round of a sum
    where the threshold leaves that.
    """
    data = demo_plan(demo, dict(members), "none" if epsilon is None else "local").model_dump(
        mode="json", exclude_none=True
    )
    data["name"] = f"modes {arm.replace('_', ' ')}"
    data["training"] |= {
        "rounds": schedule.rounds,
        "local_steps": schedule.local_steps,
        "learning_rate": schedule.learning_rate,
    }
    data["federation"]["weighting"] = "declared_patients"
    if epsilon is None:
        return FederationPlan.parse(data)
    data["privacy"] |= {"epsilon": epsilon, "noise_multiplier": 1.0}
    plan = FederationPlan.parse(data)
    chosen = ARMS[arm]
    if chosen.mode == "local":
        noise = calibrate_plan_noise(plan)
        data["privacy"]["noise_multiplier"] = round(noise + 5e-5, 4)
        return FederationPlan.parse(data)
    keys = {name: stand_in_key(name) for name in members}
    return with_secure_sum(plan, chosen.mode, keys, colluding=chosen.colluding, unit=chosen.unit)
