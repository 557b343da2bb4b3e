"""A plan of mode ``local`` as one of modes ``distributed`` or ``central``, at the same epsilon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared_model.plan import FederationPlan, PrivacyMode
from shared_model.privacy.plan_cost import calibrate_plan_noise
from shared_model.privacy.section import PrivacyUnit
from simulations.federation.summed_plan import with_summed_defaults


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

    The noise is calibrated anew to the plan's epsilon, for ``spare_rounds`` more than it has; the
    other words are those of :func:`with_summed_defaults`. Raises SMR-E102 for what these modes
    refuse.
    """
    data: dict[str, Any] = plan.model_dump(mode="json", exclude_none=True)
    data["privacy"] |= {"mode": mode, "noise_multiplier": 1.0, "unit": unit}
    data = with_summed_defaults(
        data, colluding=colluding, missing=missing, signing_keys=signing_keys
    )
    bare = FederationPlan.parse(data)
    noise = calibrate_plan_noise(bare, "train", spare_rounds=spare_rounds)
    data["privacy"]["noise_multiplier"] = round(noise + 5e-5, 4)
    return FederationPlan.parse(data)
