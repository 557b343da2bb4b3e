"""Plans of the study: one task, the same schedule for every arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shared_model.models.plan_sections import plan_sections
from shared_model.plan import FederationPlan
from shared_model.privacy.accounting import calibrate_noise

Model = Literal["unet", "unet-transformer", "lesion-detector"]
DELTA = 1e-5


@dataclass(frozen=True)
class Schedule:
    """What every arm has in common.

    Attributes:
        rounds: each one step at every site, and one step of Adam at the server.
        sampling_rate: Poisson probability of a patient in the federation; one place alone takes as
            many scans a step as the sites do together.
        server_rate: of Adam.
        spacing_mm: of the grid.
    """

    rounds: int = 320
    sampling_rate: float = 0.05
    server_rate: float = 0.01
    spacing_mm: float = 4.0


def lesion_plan(
    model: Model,
    declared: Mapping[str, int],
    schedule: Schedule,
    *,
    epsilon: float | None = None,
    sampling_rate: float | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> FederationPlan:
    """A plan of these sites (declared training patients by name); no ``epsilon``: no privacy."""
    of_model = plan_sections(model, options, "shared")
    rate = schedule.sampling_rate if sampling_rate is None else sampling_rate
    privacy: dict[str, Any] = {"mode": "none"}
    if epsilon is not None:
        privacy = {
            "mode": "local",
            "epsilon": epsilon,
            "delta": DELTA,
            "noise_multiplier": calibrate_noise(epsilon, DELTA, rate, schedule.rounds),
            "clipping_norm": 0.5,
        }
    of_model["training"] = {
        "rounds": schedule.rounds,
        "local_steps": 1,
        "sampling_rate": rate,
        "learning_rate": 1.0,
        "server_learning_rate": schedule.server_rate,
        "ema_decay": 0.9,
    }
    return FederationPlan.parse(
        of_model
        | {
            "name": f"lesion study {model}",
            "seed": seed,
            "input": {"grid": {"spacing_mm": schedule.spacing_mm}},
            "privacy": privacy,
            "aggregation": {"server_optimizer": "adam"},
            "federation": {
                "sites": [{"name": n, "declared_patients": c} for n, c in declared.items()],
                "round_deadline_s": 36000,
            },
            "evaluation": {"bootstrap_draws": 100},
        }
    )


def one_place(sites: Sequence[str]) -> str:
    """The name of the one site of a centralised plan."""
    return "pooled" if len(sites) > 1 else sites[0]
