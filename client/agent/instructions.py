"""Whether an instruction is for this site and plan, and what it carries: public values only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from client.agent.acceptance import AcceptedPlans
from client.agent.masked_rounds import out_of_place
from client.egress.policy import Shapes
from shared_model.adaptation.wire import Carried, carried_shapes, without_moments
from shared_model.aggregation.control_wire import (
    CommonControl,
    control_shapes,
    require_control_norm,
    without_control,
)
from shared_model.aggregation.update_bound import control_norm_bound
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, decode_arrays, largest_body
from shared_model.protocol.messages import MASK_KINDS, RoundInstruction
from shared_model.protocol.sealed import Sealed
from shared_model.releases.schedule import require_planned
from shared_model.secure_aggregation.plan_block import largest_question


def admit_instruction(header: RoundInstruction, plan: FederationPlan, site: str) -> None:
    """Return for a message to this site, about this plan, that the plan announces there.

    Raises SMR-E401 (other plan), SMR-E402 (other site), SMR-E416 (no such round), SMR-E370 (no
    evaluation or calibration at this round) and SMR-E457 (masks where the plan has none, or none
    where it has them).
    """
    for code, what, expected, found in (
        ("SMR-E401", "plan", plan.digest, header.plan_digest),
        ("SMR-E402", "site", site, header.site),
    ):
        if expected != found:
            raise SmrfedError(
                code,
                f"the instruction is for another {what}",
                expected=expected,
                found=found,
                remedy="the coordinator must use the plan and the name that this site accepted",
            )
    if header.round > plan.training.rounds:
        raise SmrfedError(
            "SMR-E416",
            f"plan {plan.name!r} has no round {header.round}",
            expected=f"1 to {plan.training.rounds}",
            found=header.round,
            remedy="more rounds need a new plan, which every site accepts anew",
        )
    require_planned(plan, header.kind, header.round)
    _require_exchange(header, plan)


def _require_exchange(header: RoundInstruction, plan: FederationPlan) -> None:
    """Raise SMR-E457 for masks, or none of them, where the plan's privacy mode has it otherwise."""
    kind, mode = header.kind, plan.privacy.mode
    if kind in MASK_KINDS and not plan.privacy.summed:
        raise out_of_place(f"{kind!r}", "privacy mode 'distributed' or 'central'", mode)
    masking, unmasking = kind == "train" and plan.privacy.summed, kind == "unmask"
    for name, order, wanted in (
        ("masking", header.masking, masking),
        ("unmasking", header.unmasking, unmasking),
    ):
        if (order is not None) != wanted:
            raise out_of_place(
                f"{kind!r} {'without' if wanted else 'with'} an order in the field {name!r}",
                f"{'one' if wanted else 'none'} in privacy mode {mode!r}",
                "none" if order is None else str(order)[:200],
            )


def largest_instruction(plan: FederationPlan, shapes: Shapes) -> int:
    """Bytes that the body of any instruction under a plan takes at most."""
    trained = {**shapes, **carried_shapes(plan), **control_shapes(plan, shapes)}
    return max(largest_body(trained), largest_question(plan))


def require_served(
    header: RoundInstruction,
    served: FederationPlan,
    site: str,
    accepted: AcceptedPlans,
    go_over: Callable[[str], None],
) -> None:
    """Raise SMR-E454 for another plan that this hospital accepted, and ask the agent to go over."""
    digest = header.plan_digest
    if digest == served.digest or header.site != site or not accepted.holds(digest):
        return
    go_over(digest)
    raise SmrfedError(
        "SMR-E454",
        "the agent goes over to another plan that this hospital accepted",
        expected=served.digest,
        found=digest,
        remedy="nothing to do: the coordinator sends the instruction again",
    )


def carried_arrays(
    instruction: Sealed, header: RoundInstruction, plan: FederationPlan, shapes: Shapes
) -> tuple[Arrays, Carried | None, CommonControl | None]:
    """The shared parameters of an instruction; released moments and common control, if any.

    Raises SMR-E115, SMR-E405 (parameters), SMR-E382 (moments) or SMR-E345 (control).
    """
    before = header.kind in ("train", "moments")
    arrays, carried = without_moments(
        decode_arrays(instruction.body), plan, header.round - 1 if before else header.round
    )
    control = None
    if header.kind == "train":
        arrays, control = without_control(arrays, plan, header.round)
        if control is not None:
            numbers = sum(value.size for value in arrays.values())
            require_control_norm(control, control_norm_bound(plan, numbers))
    found = {name: value.shape for name, value in arrays.items()}
    if found != shapes:
        differing = sorted(set(found.items()) ^ set(shapes.items()))
        problem = "; ".join(f"{name} {shape}" for name, shape in differing[:6])
    else:
        wrong = [name for name, value in arrays.items() if not np.isfinite(value).all()]
        problem = f"NaN or infinity in {', '.join(wrong[:6])}" if wrong else ""
    if problem:
        raise SmrfedError(
            "SMR-E405",
            "the instruction's arrays are not the shared parameters of the plan",
            expected=f"{len(shapes)} finite arrays by name and shape",
            found=problem,
            remedy="check that coordinator and site run the same smrfed version and atlas",
        )
    return arrays, carried, control
