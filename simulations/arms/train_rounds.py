"""The plan's rounds without agents, ledger and messages: training and aggregation only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from client.training.data_free import SiteTerms
from client.training.examples import PatientExamples
from client.training.rounds import train_round
from client.training.site_model import SiteModel
from server.aggregation.next_state import CONTROL, RoundUpdates, next_state
from server.checkpoints.state import RunState
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import decode_arrays, encode_arrays

Arrays = dict[str, npt.NDArray[np.float32]]


def train_rounds(
    site_model: SiteModel,
    initial: Arrays,
    sites: Mapping[str, Sequence[PatientExamples]],
    plan: FederationPlan,
    after_round: Callable[[int, Arrays], None] | None = None,
) -> Arrays:
    """Run the plan's rounds at these sites and return the shared parameters.

    The same optimiser, steps, noise, learning rates, aggregation and rounding of updates as the
    federation; without privacy the result has the same bits. Nothing is charged to a ledger: for
    synthetic patients only.
    """
    state = RunState(0, encode_arrays(initial))
    shapes = {name: value.shape for name, value in initial.items()}
    # Where adaptive clipping arrived at each site, and what the aggregation keeps there.
    norms: dict[str, float] = {}
    kept: dict[str, SiteTerms] = {}
    for number in range(1, plan.training.rounds + 1):
        updates, current = RoundUpdates(plan, shapes), decode_arrays(state.body)
        known = state.optimiser.get(CONTROL)
        common = None if known is None else decode_arrays(known)
        for name, examples in sites.items():
            before = kept.get(name, SiteTerms())
            terms = SiteTerms(before.own, before.own_control, common)
            site_model.load_shared(current)
            trained = train_round(
                site_model, examples, plan, name, number, "simulated", norms.get(name), terms=terms
            )
            norms[name] = trained.clipping_norm
            kept[name] = SiteTerms(trained.own or None, trained.own_control or None)
            updates.add(name, trained.delta)
        new, memory = next_state(plan, state, updates)
        state = RunState(number, encode_arrays(new), (), memory)
        if after_round is not None:
            after_round(number, new)
    return decode_arrays(state.release_body)
