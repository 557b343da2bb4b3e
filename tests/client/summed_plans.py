"""Plans in modes ``distributed`` and ``central``, for tests."""

from __future__ import annotations

from typing import Any

from shared_model.plan import FederationPlan


def signing_key(number: int) -> str:
    return f"{number:064x}"


def as_summed(
    data: dict[str, Any],
    mode: str = "distributed",
    sites: int = 4,
    *,
    declared: int = 20,
    **sections: Any,
) -> FederationPlan:
    """A plan of plain data turned into one with a secure sum over as many sites."""
    unit = sections.get("privacy", {}).get("unit", "patient")
    data = dict(data)
    data["privacy"] = {"noise_multiplier": 2.0} | data.get("privacy", {}) | {"mode": mode}
    data["secure_aggregation"] = {
        "threshold": sites // 2 + 1,
        "min_survivors": max(2, sites - 1, sites // 2 + 1),
        "colluding": 0,
    }
    data["federation"] = {
        "weighting": "equal" if unit == "hospital" else "declared_patients",
        "sites": [
            {"name": name, "declared_patients": declared, "signing_key": signing_key(k)}
            for k, name in enumerate("abcdefghijklmnop"[:sites])
        ],
    }
    for name, section in sections.items():
        data[name] = (data.get(name) or {}) | section
    return FederationPlan.parse(data)


def summed_plan(mode: str = "distributed", sites: int = 4, **sections: Any) -> FederationPlan:
    return as_summed({"name": "summed"}, mode, sites, **sections)
