"""What a plan says about privacy and the model, as an evaluation states it."""

from __future__ import annotations

import math
from typing import Any

from shared_model.evaluation.model_card import ModelFacts
from shared_model.evaluation.results import Privacy
from shared_model.plan import FederationPlan
from shared_model.privacy.trust import neighbouring_in_words, trust_in_words, unit_in_words

LEDGERS = "the largest spent at any hospital, by the ledgers"


def privacy_of(plan: FederationPlan, epsilon: float | None, how: str = LEDGERS) -> Privacy:
    """The guarantee of a plan, with the epsilon that ledgers or the plan's accounting state."""
    private = plan.privacy.mode != "none"
    told = _mechanism(plan) if private else {}
    return Privacy(
        mode=plan.privacy.mode,
        epsilon=epsilon if private else None,
        delta=plan.privacy.delta if private else None,
        unit=unit_in_words(plan),
        neighbouring=neighbouring_in_words(plan),
        trust=trust_in_words(plan),
        how=how,
        **told,
    )


def _mechanism(plan: FederationPlan) -> dict[str, Any]:
    """Noise, clipping, sampling and steps of the training, as planned."""
    steps = plan.training.rounds * plan.training.local_steps
    rate, noise = plan.training.sampling_rate, plan.privacy.noise_multiplier
    return {
        "noise_multiplier": noise,
        "clipping_norm": plan.privacy.clipping_norm,
        "sampling_rate": rate,
        "steps": steps,
        # Subsampling has no exact mu.
        "mu": math.sqrt(steps) / noise if rate == 1 and noise > 0 else None,
    }


def model_facts_of(
    plan: FederationPlan, trained_on: str, federated_parameters: int | None = None
) -> ModelFacts:
    """What a plan says of its model; what nobody said stays unsaid."""
    grid = plan.input.grid
    config = ", ".join(f"{name} {value}" for name, value in sorted(plan.model.config.items()))
    shape = " x ".join(str(n) for n in grid.shape)
    return ModelFacts(
        name=plan.name,
        architecture=f"{plan.model.name}{f' ({config})' if config else ''}, site_norm "
        f"{plan.adaptation.site_norm}, personalised {plan.adaptation.personalise}",
        federated_parameters=federated_parameters,
        input=f"T1-weighted MRI, prepared as “{plan.input.preparation.source}”, {shape} voxels of "
        f"{grid.spacing_mm:g} mm",
        trained_on=trained_on,
        training_sites=tuple(site.name for site in plan.federation.sites),
    )
