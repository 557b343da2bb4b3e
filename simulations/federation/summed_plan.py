"""Plans in modes ``distributed`` and ``central`` of simulations, and the same for one party."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

from shared_model.plan import FederationPlan
from shared_model.privacy.section import SUMMED


def with_summed_defaults(
    data: dict[str, Any],
    *,
    colluding: int = 0,
    missing: int = 1,
    signing_keys: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Plain data of a plan with what a secure sum needs: every step a round, thresholds, keys.

    The threshold is the least that is safe with so many colluders, and ``missing`` sites may be
    away in a round where that leaves enough. Every patient of the sum (unit ``hospital``: every
    hospital) counts the same. ``signing_keys``: site -> 64 hexadecimal digits; without them keys
    are stand-ins, of which nobody has the private half: for sums without masks
    (:mod:`simulations.federation.plain_sum`).
    """
    out = copy.deepcopy(data)
    federation, training = out["federation"], out["training"]
    sites = federation["sites"]
    threshold = max(2, (len(sites) + colluding) // 2 + 1)
    out["secure_aggregation"] = {
        "threshold": threshold,
        "min_survivors": max(threshold, len(sites) - missing),
        "colluding": colluding,
    }
    training["rounds"] *= training.get("local_steps", 1)
    training["local_steps"] = 1
    by_hospital = out.get("privacy", {}).get("unit") == "hospital"
    federation["weighting"] = "equal" if by_hospital else "declared_patients"
    federation["min_sites"] = 1
    for site in sites:
        name = site["name"]
        site["signing_key"] = stand_in_key(name) if signing_keys is None else signing_keys[name]
    return out


def for_one_party(data: dict[str, Any]) -> dict[str, Any]:
    """Plain data of a plan that one party follows alone: a secure sum becomes mode ``local``.

    With one party both are the same noise on the same sum, at the same epsilon; any other plan
    stays as it is.
    """
    out = copy.deepcopy(data)
    if out["privacy"].get("mode") not in SUMMED:
        return out
    out["privacy"] |= {"mode": "local", "unit": "patient"}
    out.pop("secure_aggregation", None)
    for site in out["federation"]["sites"]:
        site.pop("signing_key", None)
    return out


def stand_in_key(site: str) -> str:
    """A signing key, 64 hexadecimal digits, of which nobody has the private half."""
    return hashlib.sha256(f"stand-in {site}".encode()).hexdigest()


def with_keys(plan: FederationPlan, keys: Mapping[str, str]) -> FederationPlan:
    """A plan whose sums real agents mask: the keys they have in place of the stand-ins.

    Any other plan stays as it is.
    """
    if not plan.privacy.summed:
        return plan
    data = plan.model_dump(mode="json", exclude_none=True)
    for site in data["federation"]["sites"]:
        site["signing_key"] = keys[site["name"]]
    return FederationPlan.parse(data)
