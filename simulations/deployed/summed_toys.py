"""Toy federations with a secure sum: their plans, and the parameters that they must end with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from server.aggregation.next_state import next_state
from server.aggregation.summed import SummedUpdate, add_modulo
from server.checkpoints.state import RunState
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import decode_arrays, encode_arrays
from simulations.deployed.stand_in import toy_sum


def summed_toy_plan(
    signing_keys: Mapping[str, str], mode: str = "distributed", **sections: Any
) -> FederationPlan:
    """A plan over these sites (name -> signing key in hexadecimal digits): a majority opens a sum.

    ``sections`` are laid over what it says otherwise.
    """
    majority = len(signing_keys) // 2 + 1
    sites = [
        {"name": name, "declared_patients": 10, "signing_key": key}
        for name, key in signing_keys.items()
    ]
    usual: dict[str, Any] = {
        "name": "toy sums",
        "privacy": {"mode": mode, "epsilon": 100.0, "noise_multiplier": 2.0},
        "secure_aggregation": {"threshold": majority, "min_survivors": majority, "colluding": 0},
        "training": {"rounds": 3, "learning_rate": 0.7},
        "federation": {
            "sites": sites,
            "weighting": "declared_patients",
            "round_deadline_s": 60.0,
        },
    }
    for name, section in sections.items():
        usual[name] = usual.get(name, {}) | section
    return FederationPlan.parse(usual)


def summed_parameters(
    plan: FederationPlan, initial: bytes, survivors: Mapping[int, Collection[str]]
) -> bytes:
    """The final parameters of stand-ins by adding their integers without any mask or noise.

    ``survivors``: round -> whose sums were opened, where those were not all; nobody: a void round.
    """
    state = RunState(0, initial)
    for number in range(1, plan.training.rounds + 1):
        names = sorted(survivors.get(number, plan.weights))
        if not names:
            state = RunState(number, state.body, optimiser=state.optimiser)
            continue
        theta = decode_arrays(state.body)
        total = {name: np.zeros(value.shape, np.int64) for name, value in theta.items()}
        for name in names:
            total = add_modulo(total, toy_sum(name, state.body, plan))
        new, memory = next_state(plan, state, SummedUpdate(plan, total, names, theta, noised=True))
        state = RunState(number, encode_arrays(new), optimiser=memory)
    return state.release_body
