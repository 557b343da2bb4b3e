"""The plan's rounds without agents, ledger and messages: training and exact averaging only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from client.training.examples import PatientExamples
from client.training.rounds import train_round
from client.training.site_model import SiteModel
from server.aggregation.fixed_point import FixedPointSum
from shared_model.plan import FederationPlan

Arrays = dict[str, npt.NDArray[np.float32]]


def train_rounds(
    site_model: SiteModel,
    initial: Arrays,
    sites: Mapping[str, Sequence[PatientExamples]],
    plan: FederationPlan,
    after_round: Callable[[int, Arrays], None] | None = None,
) -> Arrays:
    """Run the plan's rounds at these sites and return the shared parameters.

    The same optimiser, steps, noise, learning rates and rounding of updates as the federation;
    without privacy the result has the same bits. Nothing is charged to a ledger: for synthetic
    patients only.
    """
    current = initial
    weights = plan.weights
    # Where adaptive clipping arrived at each site.
    norms: dict[str, float] = {}
    for number in range(1, plan.training.rounds + 1):
        total = FixedPointSum(
            {name: value.shape for name, value in current.items()}, sum(weights.values())
        )
        for name, examples in sites.items():
            site_model.load_shared(current)
            update = train_round(
                site_model, examples, plan, name, number, "simulated", norms.get(name)
            )
            norms[name] = update.clipping_norm
            total.add(update.delta, weights[name])
        current = total.step(current, plan.training.server_learning_rate)
        if after_round is not None:
            after_round(number, current)
    return current
