"""Training without a federation: one hospital alone, or all their data in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from client.training.examples import PatientExamples
from client.training.rounds import train_round
from client.training.site_model import SiteModel
from server.aggregation.fixed_point import FixedPointSum
from shared_model.plan import FederationPlan

Arrays = dict[str, npt.NDArray[np.float32]]


def centralised_plan(plan: FederationPlan, name: str, patients: int) -> FederationPlan:
    """The same schedule, without privacy, for one place that holds ``patients`` patients."""
    data = plan.model_dump(mode="json")
    data["name"] = f"{plan.name} - {name}"
    data["privacy"] |= {"mode": "none", "noise_multiplier": 0.0}
    data["federation"] |= {
        "sites": [{"name": name, "declared_patients": patients}],
        "min_sites": 1,
        "weighting": "equal",
    }
    return FederationPlan.parse(data)


def train_centralised(
    site_model: SiteModel,
    initial: Arrays,
    examples: Sequence[PatientExamples],
    plan: FederationPlan,
    after_round: Callable[[int, Arrays], None] | None = None,
) -> Arrays:
    """Run the plan's rounds at its only site and return the shared parameters.

    The same optimiser, steps, learning rates and rounding of updates as the federation: what
    differs is the data alone. A federation of one site without privacy gives the same bits.
    """
    (site,) = plan.federation.sites
    current = initial
    for number in range(1, plan.training.rounds + 1):
        site_model.load_shared(current)
        update = train_round(site_model, examples, plan, site.name, number, "centralised")
        total = FixedPointSum({name: value.shape for name, value in current.items()}, 1)
        total.add(update.delta, 1)
        current = total.step(current, plan.training.server_learning_rate)
        if after_round is not None:
            after_round(number, current)
    return current


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
