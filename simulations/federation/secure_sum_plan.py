"""A plan of mode ``local`` as one of modes ``distributed`` or ``central``, at the same epsilon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared_model.plan import FederationPlan, PrivacyMode
from shared_model.privacy.plan_cost import calibrate_plan_noise
from shared_model.privacy.section import PrivacyUnit


def with_secure_sum(
    plan: FederationPlan,
    mode: PrivacyMode,
    signing_keys: Mapping[str, str],
    *,
    colluding: int = 0,
    missing: int = 1,
    spare_rounds: int = 0,
    unit: PrivacyUnit = "patient",
) -> FederationPlan:
    """The same study with one secure sum a round of the same sites; everything else stays.

    One step a round, every patient of the sum (unit ``hospital``: every hospital) counts the same,
    and the noise is calibrated anew to
    the plan's epsilon. ``missing`` sites may be away in a round, where the threshold leaves that.
    ``signing_keys``: site -> 64 hexadecimal digits. Raises SMR-E102 for what these modes refuse.
    """
    data: dict[str, Any] = plan.model_dump(mode="json", exclude_none=True)
    count = len(plan.federation.sites)
    threshold = (count + colluding) // 2 + 1
    data["secure_aggregation"] = {
        "threshold": threshold,
        "min_survivors": max(threshold, count - missing),
        "colluding": colluding,
    }
    data["privacy"] |= {"mode": mode, "noise_multiplier": 1.0, "unit": unit}
    data["training"]["local_steps"] = 1
    weighting = "declared_patients" if unit == "patient" else "equal"
    data["federation"] |= {"weighting": weighting, "min_sites": 1}
    for site in data["federation"]["sites"]:
        site["signing_key"] = signing_keys[site["name"]]
    bare = FederationPlan.parse(data)
    noise = calibrate_plan_noise(bare, "train", spare_rounds=spare_rounds)
    data["privacy"]["noise_multiplier"] = round(noise + 5e-5, 4)
    return FederationPlan.parse(data)
