"""From a round's accepted updates to what the next one starts from: parameters and memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from server.aggregation.control import counted_rounds, updated_control
from server.aggregation.ema import updated_average
from server.aggregation.fixed_point import FixedPointSum, Shapes
from server.aggregation.robust import Centre, KeptUpdates
from server.aggregation.server_optimizer import adaptive_step, plain_step
from server.aggregation.summed import SummedUpdate
from server.checkpoints.state import AVERAGE, RunState
from shared_model.aggregation.control_wire import CommonControl, with_control
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, decode_arrays, encode_arrays

#: Names in :attr:`RunState.optimiser`: SCAFFOLD's c, and the moments of a server optimiser.
CONTROL, FIRST, SECOND = "control", "first-moment", "second-moment"

Parameters = dict[str, npt.NDArray[np.float32]]


class RoundUpdates:
    """Takes the accepted updates of one round, by the plan's rule.

    The mean is one exact integer sum, whatever the number of sites; the robust rules keep every
    update (:class:`server.aggregation.robust.KeptUpdates`).
    """

    def __init__(self, plan: FederationPlan, shapes: Shapes) -> None:
        section = plan.aggregation
        self._weights = plan.weights
        self._sum = self._kept = None
        if section.rule == "mean":
            self._sum = FixedPointSum(shapes, sum(self._weights.values()))
        else:
            self._kept = KeptUpdates(shapes, section.rule, section.faulty_sites)

    def add(self, site: str, update: Arrays) -> None:
        """Count the update of a site of the plan, once; raises what the rule refuses."""
        if self._sum is not None:
            self._sum.add(update, self._weights[site])
        elif self._kept is not None:
            self._kept.add(site, update)

    @property
    def weight(self) -> int:
        """Sum of the public weights of the accepted sites."""
        one = self._sum if self._sum is not None else self._kept
        return 0 if one is None else one.weight

    def centre(self) -> Centre:
        """The aggregated update, float64, by name."""
        if self._sum is not None:
            return self._sum.mean()
        assert self._kept is not None
        return self._kept.centre()

    def step(self, parameters: Arrays, learning_rate: float) -> Parameters:
        """The plain step; that of the mean needs no second copy of the sum."""
        if self._sum is not None:
            return self._sum.step(parameters, learning_rate)
        return plain_step(parameters, self.centre(), learning_rate)


def next_state(
    plan: FederationPlan, state: RunState, updates: RoundUpdates | SummedUpdate
) -> tuple[Parameters, dict[str, bytes]]:
    """The new parameters, and the memory beside them; functions of the updates and the checkpoint.

    Everything remembered is float32 and goes through the checkpoint, so that a run that was killed
    goes on to the same bits. Raises SMR-E521.
    """
    section, training = plan.aggregation, plan.training
    rate, theta = training.server_learning_rate, decode_arrays(state.body)
    memory: dict[str, bytes] = {}
    if section.server_optimizer == "sgd":
        new = updates.step(theta, rate)
    else:
        moments = None
        if FIRST in state.optimiser:
            kept = state.optimiser
            moments = decode_arrays(kept[FIRST]), decode_arrays(kept[SECOND])
        new, (first, second) = adaptive_step(theta, updates.centre(), moments, section, rate)
        memory |= {FIRST: encode_arrays(first), SECOND: encode_arrays(second)}
    if section.control_variates:
        known = state.optimiser.get(CONTROL)
        control = updated_control(
            None if known is None else decode_arrays(known),
            updates.centre(),
            updates.weight / sum(plan.weights.values()),
            training.local_steps * training.learning_rate,
        )
        memory[CONTROL] = encode_arrays(control)
    if training.ema_decay:
        average = decode_arrays(state.release_body)
        averaged = updated_average(average, new, training.ema_decay, state.round + 1)
        memory[AVERAGE] = encode_arrays(averaged)
    return new, memory


def asked_body(state: RunState) -> bytes:
    """What sites train from: the parameters, and the common control variate where there is one."""
    known = state.optimiser.get(CONTROL)
    if known is None:
        return state.body
    control = CommonControl(decode_arrays(known), counted_rounds(state.history))
    return encode_arrays(with_control(decode_arrays(state.body), control))
