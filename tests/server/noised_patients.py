"""Simulated test patients, and what a site with them would release."""

from __future__ import annotations

from typing import Any

import numpy as np

from shared_model.plan import FederationPlan
from shared_model.releases.statistics import (
    Statistics,
    noise_multiplier,
    patient_vectors,
    split,
)

Patients = tuple[np.ndarray, np.ndarray]


def plan_with(
    evaluate: float = 0.0, calibrate: float = 0.0, *sites: str, **sections: Any
) -> FederationPlan:
    """Evaluation every second round and ``prior_free``, with these noises; none: mode none."""
    private = evaluate > 0 or calibrate > 0
    evaluation = {"release_every": 2, **sections.pop("evaluation", {})}
    calibration: dict[str, Any] = {"rule": "prior_free"}
    if private:
        evaluation["release_noise_multiplier"] = evaluate or 1.0
        calibration["noise_multiplier"] = calibrate or 1.0
    return FederationPlan.parse(
        {
            "name": "figures",
            "privacy": {"mode": "local", "noise_multiplier": 2.0} if private else {"mode": "none"},
            "evaluation": evaluation,
            "calibration": calibration,
            "federation": {
                "sites": [{"name": n, "declared_patients": 200} for n in sites or ("a",)]
            },
            **sections,
        }
    )


def draw(
    rng: np.random.Generator,
    patients: int,
    lean: tuple[float, ...] = (0.0, 0.0, 0.0),
    separation: float = 1.5,
    prevalence: tuple[float, ...] | None = None,
    scale: float = 1.0,
) -> Patients:
    """Labels and probabilities of a model that leans to classes by ``lean`` (in logits).

    ``scale`` shortens the rest of the logits, as training under noise does.
    """
    c = len(lean)
    y = rng.choice(c, patients, p=prevalence)
    z = scale * (rng.normal(size=(patients, c)) + separation * np.eye(c)[y]) + np.array(lean)
    e = np.exp(z - z.max(1, keepdims=True))
    return y, e / e.sum(1, keepdims=True)


def released(
    rng: np.random.Generator, kind: Statistics, patients: Patients, plan: FederationPlan
) -> dict[str, np.ndarray]:
    """The arrays of one site, noised as the plan says, from a seeded generator."""
    total = patient_vectors(kind, *patients, plan).sum(0)
    noised = total + noise_multiplier(plan, kind) * rng.normal(size=total.shape)
    return split(kind, noised.astype(np.float32), plan)
