"""Training without a federation: one hospital alone, or all their data in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.plan import FederationPlan
from simulations.arms.train_rounds import Arrays, train_rounds
from simulations.federation.summed_plan import for_one_party


def centralised_plan(plan: FederationPlan, name: str, patients: int) -> FederationPlan:
    """The same schedule, without privacy, for one place that holds ``patients`` patients."""
    data = one_site_plan(plan, name, patients).model_dump(mode="json")
    data["privacy"] |= {"mode": "none", "noise_multiplier": 0.0}
    return FederationPlan.parse(data)


def one_site_plan(plan: FederationPlan, name: str, patients: int) -> FederationPlan:
    """The same plan for one place that holds ``patients`` patients.

    Of mode ``distributed`` or ``central`` it takes mode ``local``: with one party both are the same
    noise on the same sum, at the same epsilon.
    """
    data = for_one_party(plan.model_dump(mode="json"))
    data["name"] = f"{plan.name} - {name}"
    data["federation"] |= {
        "sites": [{"name": name, "declared_patients": patients}],
        "min_sites": 1,
        "weighting": "equal",
    }
    # One place has nobody to agree with; a rate of an adaptive server step means nothing else.
    if data.pop("aggregation")["server_optimizer"] != "sgd":
        data["training"]["server_learning_rate"] = 1.0
    return FederationPlan.parse(data)


def train_centralised(
    site_model: SiteModel,
    initial: Arrays,
    examples: Sequence[PatientExamples],
    plan: FederationPlan,
    after_round: Callable[[int, Arrays], None] | None = None,
) -> Arrays:
    """Run the plan's rounds at its only site and return the shared parameters."""
    (site,) = plan.federation.sites
    return train_rounds(site_model, initial, {site.name: examples}, plan, after_round)


def shuffled(examples: Sequence[PatientExamples], seed: int) -> list[PatientExamples]:
    """The same scans with other patients' labels: a model trained on them must stay at chance.

    A patient's scans keep one common label.
    """
    order = np.random.default_rng(seed).permutation(len(examples))
    return [
        PatientExamples(
            patient.id,
            patient.inputs,
            examples[other].labels[:1].expand(len(patient.labels)).clone(),
            patient.views,
        )
        for patient, other in zip(examples, order, strict=True)
    ]
