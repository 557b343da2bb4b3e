"""Which releases a plan asks for, and under which number of the run."""

from __future__ import annotations

import math

from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan


def evaluation_due(plan: FederationPlan, round_number: int) -> bool:
    """Whether test patients are looked at after this round: every so many, and after the last.

    What ends a run (calibration, last evaluation, ``finalise``) always carries the number of the
    plan's last round, also when the rounds ended early.
    """
    every = plan.evaluation.release_every
    if not every or round_number < 1:
        return False
    return round_number == plan.training.rounds or round_number % every == 0


def calibration_due(plan: FederationPlan, round_number: int) -> bool:
    """Whether training patients are looked at for what follows training: once, at the end."""
    return plan.calibration.releases and round_number == plan.training.rounds


def moments_due(plan: FederationPlan, round_number: int) -> bool:
    """Whether embeddings of training patients are looked at after this round (layer B).

    The last one belongs to the released model; an unseen hospital adapts with it (layer C).
    """
    if plan.adaptation.site_moments == "off" or round_number < 1:
        return False
    rounds, every = plan.training.rounds, plan.adaptation.moments_every
    return round_number == rounds or round_number % every == 0


def moments_count(plan: FederationPlan, rounds: int | None = None) -> int:
    """Releases of moments in a run of so many rounds (none: the plan's), with the last one."""
    if plan.adaptation.site_moments == "off":
        return 0
    rounds = plan.training.rounds if rounds is None else rounds
    return math.ceil(rounds / plan.adaptation.moments_every)


def require_planned(plan: FederationPlan, kind: str, round_number: int) -> None:
    """Raise SMR-E370 for a look at patients that the plan does not announce here."""
    due = {
        "evaluate": evaluation_due,
        "calibrate": calibration_due,
        "moments": moments_due,
    }.get(kind)
    if due is not None and not due(plan, round_number):
        raise SmrfedError(
            "SMR-E370",
            f"plan {plan.name!r} announces no '{kind}' at round {round_number}",
            expected=f"evaluation.release_every = {plan.evaluation.release_every}, "
            f"calibration.rule = {plan.calibration.rule!r}, "
            f"calibration.unseen_sites = {plan.calibration.unseen_sites}, "
            f"adaptation.site_moments = {plan.adaptation.site_moments!r}, "
            f"moments_every = {plan.adaptation.moments_every}",
            found=f"'{kind}' at round {round_number} of {plan.training.rounds}",
            remedy="the coordinator may ask only for what the accepted plan lists",
        )
