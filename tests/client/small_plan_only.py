"""A plan for the tests of ledger and egress gate; no torch here."""

from __future__ import annotations

from typing import Any

from shared_model.plan import FederationPlan


def small_budget_plan(
    noise: float = 4.0,
    epsilon_cap: float = 8.0,
    mode: str = "local",
    *,
    training: dict[str, Any] | None = None,
    privacy: dict[str, Any] | None = None,
    adaptation: dict[str, Any] | None = None,
) -> FederationPlan:
    local = {"mode": "local", "noise_multiplier": noise, "epsilon": epsilon_cap}
    return FederationPlan.parse(
        {
            "name": "budget",
            "privacy": (local if mode == "local" else {"mode": "none"}) | (privacy or {}),
            "training": {"rounds": 5, "sampling_rate": 0.5} | (training or {}),
            "adaptation": adaptation or {},
            "federation": {"sites": [{"name": "a", "declared_patients": 40}]},
        }
    )
