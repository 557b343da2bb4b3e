"""The federation plan of an arm: the demonstration's, with what scenario and arm change in it."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from shared_model.adaptation.section import AdaptationSection
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import calibrate_plan_noise
from shared_model.privacy.section import SUMMED
from shared_model.registry import default_groups
from simulations.demo.settings import SPARE_ROUNDS, DemoSettings, demo_plan
from simulations.federation.summed_plan import for_one_party, with_summed_defaults
from simulations.scenarios.schema import NEURAL, ArmSection, Scenario

#: What decides who is tested and what is predicted: arms that differ in it cannot be compared.
_SAME_IN_ALL_ARMS = (("task",), ("evaluation", "test_fraction"), ("evaluation", "split"))
#: What the scenario says elsewhere.
_SAID_ELSEWHERE = (("name",), ("seed",), ("federation", "sites"))

Fields = Mapping[str, Any]


def arm_plan(
    scenario: Scenario, name: str, seed: int, members: Mapping[str, int]
) -> FederationPlan:
    """The plan of one arm for one seed, with ``members`` and the size of their archives.

    In a private plan that names no ``noise_multiplier`` the noise is calibrated, so that all
    releases of the plan together, and two repeated rounds, cost its epsilon.

    Raises:
        SmrfedError: SMR-E682 where a changed field is unknown, out of range, or not an arm's to
            change.
    """
    arm = scenario.arms[name]
    _refuse_fields("[plan]", scenario.plan, _SAID_ELSEWHERE)
    _refuse_fields(f"[arms.{name}.plan]", arm.plan, (*_SAID_ELSEWHERE, *_SAME_IN_ALL_ARMS))
    changes = _merged(_merged({}, scenario.plan), arm.plan)
    try:
        plan = _plan(json.dumps(changes, sort_keys=True), seed, tuple(members.items()))
    except SmrfedError as error:
        if error.code not in ("SMR-E102", "SMR-E301", "SMR-E601"):
            raise
        raise SmrfedError(
            "SMR-E682",
            f"the plan of arm {name!r} is not valid",
            expected=error.expected,
            found=error.found or error.what,
            remedy=f"correct [plan] or [arms.{name}.plan]; docs/plan.md lists every field",
        ) from None
    if arm.repeats > 1 and (plan.privacy.mode == "none" or not is_neural(arm)):
        raise SmrfedError(
            "SMR-E682",
            f"arm {name!r} would repeat a run that has no noise",
            expected="repeats = 1 without privacy: every run has the same bits",
            found=f"repeats = {arm.repeats}",
            remedy="remove repeats, or set plan.privacy.mode",
        )
    return plan


def is_neural(arm: ArmSection) -> bool:
    """Whether the arm trains the plan's model."""
    return arm.kind in NEURAL


def _plan(changes: str, seed: int, members: tuple[tuple[str, int], ...]) -> FederationPlan:
    fields = json.loads(changes)
    privacy, evaluation = (
        part if isinstance(part := fields.get(name), dict) else {}
        for name in ("privacy", "evaluation")
    )
    private = privacy.get("mode", "none") != "none"
    base = _base(private, seed, members, evaluation.get("test_fraction"))
    if privacy.get("mode") in SUMMED:
        base["privacy"]["unit"] = privacy.get("unit", "patient")
        base = with_summed_defaults(base)
    data = _merged(base, fields)
    if "groups" not in fields and {"name"} <= set(data.get("model", ())):
        norm = data.get("adaptation", {}).get("site_norm", AdaptationSection().site_norm)
        data["groups"] = default_groups(data["model"]["name"], norm).model_dump(mode="json")
    plan = FederationPlan.parse(data)
    if private and "noise_multiplier" not in privacy:
        data["privacy"]["noise_multiplier"] = _noise(_without_people(plan))
        plan = FederationPlan.parse(data)
    return plan


def _base(
    private: bool, seed: int, members: tuple[tuple[str, int], ...], test_fraction: object
) -> dict[str, Any]:
    settings = DemoSettings(seed=seed)
    # An impossible fraction is reported with the whole plan.
    known = isinstance(test_fraction, float) and 0 < test_fraction < 1
    fraction = float(str(test_fraction)) if known else 0.25
    data = demo_plan(settings, dict(members), "none", fraction).model_dump(mode="json")
    data["name"] = "scenario"
    if private:
        data["training"]["learning_rate"] = settings.private_learning_rate
        data["privacy"] |= {"mode": "local", "noise_multiplier": 1.0}
    return data


def _without_people(plan: FederationPlan) -> str:
    data = for_one_party(plan.model_dump(mode="json"))
    if plan.privacy.unit == "hospital":
        data["training"]["sampling_rate"] = 1.0  # a hospital is in every round
    data["federation"]["sites"] = [{"name": "any", "declared_patients": 1}]
    data["federation"]["min_sites"] = 1
    data.pop("aggregation")  # costs nothing, and a robust rule needs more than one site
    data["seed"] = 0
    return json.dumps(data, sort_keys=True)


@functools.cache
def _noise(plan: str) -> float:
    """Noise of a plan in the accountant's terms; who takes part does not enter.

    A secure sum is one use of the mechanism with the same multiplier, so a plan for one party has
    its noise.
    """
    found = calibrate_plan_noise(FederationPlan.parse(json.loads(plan)), spare_rounds=SPARE_ROUNDS)
    return round(found, 4)


def _merged(base: Fields, changes: Fields) -> dict[str, Any]:
    """Changes over a base, table by table; an empty text removes the key."""
    out = dict(base)
    for key, value in changes.items():
        if value == "":
            out.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = _merged(out[key], value)
        else:
            out[key] = value
    return out


def _refuse_fields(where: str, fields: Fields, refused: tuple[tuple[str, ...], ...]) -> None:
    for path in refused:
        found: Any = fields
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is not None:
            raise SmrfedError(
                "SMR-E682",
                f"{where} cannot change {'.'.join(path)}",
                expected="arms that are tested on the same patients; seeds and hospitals come "
                "from the scenario itself",
                found=found,
                remedy="set seeds and [cohort] in the scenario; set the split and the task in "
                "[plan], for all arms",
            )
