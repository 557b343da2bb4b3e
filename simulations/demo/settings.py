"""The demonstration's fixed choices: sizes, plan, public weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared_model.plan import FederationPlan, PrivacyMode
from shared_model.privacy.accounting import calibrate_noise
from shared_model.privacy.section import SUMMED
from shared_model.public_weights import PACKAGED
from shared_model.registry import default_groups
from simulations.federation.summed_plan import with_summed_defaults

_WEIGHTS_CARD = PACKAGED / "smrnet-w8-synthetic-morphometry.json"

# A crash costs the charge of a round that is trained again: the budget has room for two.
SPARE_ROUNDS = 2


class DemoSettings(BaseModel):
    """What ``smrfed-sim demo`` runs; the defaults take minutes on two cores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patients_per_site: int = Field(default=60, ge=12, description="at each of the four hospitals")
    unseen_patients: int = Field(default=60, ge=12, description="at the hospital left out")
    seed: int = Field(default=0, ge=0, description="of the synthetic patients and the split")
    privacy: Literal["local", "distributed", "central"] = Field(
        default="local", description="who adds the noise of the private federation"
    )
    epsilon: float = Field(default=8.0, gt=0)
    delta: float = Field(default=1e-5, gt=0, lt=1)
    rounds: int = Field(default=30, ge=1)
    local_steps: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=0.2, gt=0)
    private_learning_rate: float = Field(
        default=0.4, gt=0, description="clipped gradients bear, and noise demands, longer steps"
    )
    robustness: bool = Field(
        default=False, description="also test the headline on scans that were made worse"
    )
    workers: int = Field(default=2, ge=1, description="processes that generate patients")


class WeightsCard(BaseModel):
    """What belongs to a packaged file of public weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    atlas_sha256: str
    model: str
    config: dict[str, int]
    trained_on: str
    command: str


def read_weights_card(path: Path = _WEIGHTS_CARD) -> WeightsCard:
    """The card beside the packaged public weights."""
    return WeightsCard.model_validate(json.loads(path.read_text(encoding="utf-8")))


def demo_plan(
    settings: DemoSettings,
    site_patients: dict[str, int],
    mode: PrivacyMode,
    test_fraction: float = 0.25,
) -> FederationPlan:
    """The plan of the demonstration, with or without privacy; all else is the same.

    ``site_patients`` are public sizes of the archives; the declared training size follows from the
    test fraction. Noise is calibrated so that all rounds, and two repeated ones, stay within
    epsilon. In modes ``distributed`` and ``central`` every step is a round, and the keys of the
    hospitals are stand-ins.
    """
    card = read_weights_card()
    summed = mode in SUMMED
    spare = SPARE_ROUNDS * (1 if summed else settings.local_steps)
    steps = settings.rounds * settings.local_steps + spare
    noise = calibrate_noise(settings.epsilon, settings.delta, 1.0, steps) if mode != "none" else 0.0
    data: dict[str, Any] = {
        "name": f"demo {'with patient-level privacy' if mode != 'none' else 'without privacy'}",
        "seed": settings.seed,
        "model": {
            "name": card.model,
            "config": card.config,
            "weights_sha256": card.sha256,
        },
        "atlas": {"name": "smrfed-seeded", "sha256": card.atlas_sha256},
        "groups": default_groups(card.model, "residual", "frozen").model_dump(mode="json"),
        "privacy": {
            "mode": mode,
            "epsilon": settings.epsilon,
            "delta": settings.delta,
            "noise_multiplier": round(noise, 4),
        },
        "training": {
            "rounds": settings.rounds,
            "local_steps": settings.local_steps,
            "learning_rate": (
                settings.learning_rate if mode == "none" else settings.private_learning_rate
            ),
        },
        "federation": {
            "sites": [
                {"name": name, "declared_patients": round(count * (1 - test_fraction))}
                for name, count in site_patients.items()
            ],
            "min_sites": max(1, len(site_patients) - 1),
            "round_deadline_s": 600.0,
        },
        "evaluation": {"test_fraction": test_fraction},
    }
    return FederationPlan.parse(with_summed_defaults(data) if summed else data)
