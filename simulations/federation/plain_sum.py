"""Rounds of modes ``distributed`` and ``central`` in this process, without masks: for utility.

The numbers are those of a deployment: the sites' real integer sums with their real noise, added
modulo 2^64, and the coordinator's real step. What is missing is everything that hides a site's
part from the coordinator, so this is for synthetic or public data only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.training.examples import PatientExamples
from client.training.shared_sum import shared_sum
from client.training.site_model import SiteModel
from server.aggregation.next_state import next_state
from server.aggregation.summed import SummedUpdate, add_modulo
from server.checkpoints.state import RunState
from shared_model.plan import FederationPlan
from shared_model.privacy.summed_noise import section_of
from shared_model.protocol.arrays import Arrays, decode_arrays, encode_arrays

#: Which sites do not answer in a round.
Dropouts = Callable[[int], Collection[str]]


@dataclass(frozen=True)
class SummedRun:
    """Where a run arrived: what would be released, and the rounds that were void."""

    released: Mapping[str, npt.NDArray[np.float32]]
    void_rounds: tuple[int, ...]


def run_plain_sum(
    plan: FederationPlan,
    site_model: SiteModel,
    examples: Mapping[str, Sequence[PatientExamples]],
    initial: Arrays | None = None,
    dropouts: Dropouts = lambda round_number: (),
) -> SummedRun:
    """All rounds of a plan with a secure sum, from ``initial`` (none: the model's own parameters).

    ``site_model`` is used for one site after another: what a site keeps is at its public values in
    every round. A round with fewer than ``min_survivors`` sites is void and leaves the parameters.
    Raises ValueError for a plan that aligns sites by released moments: that needs the driver.
    """
    if plan.adaptation.site_moments != "off":
        raise ValueError("site moments need the round driver")
    section = section_of(plan)
    start = site_model.shared_arrays() if initial is None else initial
    state, void = RunState(round=0, body=encode_arrays(start)), []
    for number in range(1, plan.training.rounds + 1):
        theta = decode_arrays(state.body)
        away = set(dropouts(number))
        survivors = [site.name for site in plan.federation.sites if site.name not in away]
        if len(survivors) < section.min_survivors:
            void.append(number)
            state = RunState(number, state.body, optimiser=state.optimiser)
            continue
        total = {name: np.zeros(value.shape, np.int64) for name, value in theta.items()}
        for name in survivors:
            site_model.load_shared(theta)
            part = shared_sum(site_model, examples[name], plan, name, number, "plain-sum")
            total = add_modulo(total, part)
        new, memory = next_state(plan, state, SummedUpdate(plan, total, survivors, theta))
        state = RunState(number, encode_arrays(new), optimiser=memory)
    return SummedRun(decode_arrays(state.release_body), tuple(void))
