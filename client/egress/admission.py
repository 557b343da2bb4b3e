"""A plan held against a policy, question by question: what is asked, what is allowed, and why."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from client.egress.policy import Shapes, SitePolicy
from client.privacy.composition import refuse_unsound
from shared_model.aggregation.wording import aggregation_in_words
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import plan_epsilon
from shared_model.privacy.summed_noise import grid_delta
from shared_model.privacy.trust import trust_in_words, unit_in_words


@dataclass(frozen=True)
class Admission:
    """One question: what the plan ``asks``, what the policy ``allows``, and the refusal if any."""

    subject: str
    asks: str
    allows: str
    error: SmrfedError | None = None


def admissions(
    policy: SitePolicy, plan: FederationPlan, shared_shapes: Shapes | None = None
) -> Iterator[Admission]:
    """Every question in turn, the cheap ones first; sizes only where the shapes are known."""
    yield _model(policy, plan)
    yield _plan(policy, plan)
    yield _mode(policy, plan)
    if plan.privacy.mode != "none":
        yield _trust(plan)
    yield _soundness(plan)
    said = aggregation_in_words(plan)
    yield Admission("aggregation", said, "any: it looks at no patient, and comes after the noise")
    if plan.privacy.mode != "none":
        yield from _budget(policy, plan)
    yield from _statistics(policy, plan)
    if shared_shapes is not None:
        yield size_admission(policy, shared_shapes, 8 if plan.privacy.summed else 4)


def size_admission(policy: SitePolicy, shapes: Shapes, number_bytes: int = 4) -> Admission:
    """Whether arrays of these shapes fit in a reply; a masked number has 8 bytes."""
    numbers = sum(math.prod(shape) for shape in shapes.values())
    size = number_bytes * numbers
    subject, asks = "size of a reply", f"{numbers:,} numbers, {size:,} bytes"
    allows = f"{policy.max_shared_parameters:,} numbers, {policy.max_reply_bytes:,} bytes"
    error = None
    if numbers > policy.max_shared_parameters:
        limit = f"max_shared_parameters = {policy.max_shared_parameters}"
        error = _beyond("SMR-E314", "the number of shared parameters", limit, numbers)
    elif size > policy.max_reply_bytes:
        limit = f"max_reply_bytes = {policy.max_reply_bytes}"
        error = _beyond("SMR-E314", "the size of a reply", limit, f"{size} bytes")
    return Admission(subject, asks, allows, error)


def _model(policy: SitePolicy, plan: FederationPlan) -> Admission:
    allowed, name = policy.allowed_models, plan.model.name
    allows = "any model of this installation" if allowed is None else ", ".join(allowed) or "none"
    error = None
    if allowed is not None and name not in allowed:
        error = _beyond("SMR-E362", "the model", f"allowed_models = {list(allowed)}", name)
    return Admission("model", name, allows, error)


def _plan(policy: SitePolicy, plan: FederationPlan) -> Admission:
    allowed = policy.allowed_plans
    allows = (
        "any plan that a person accepts" if allowed is None else f"{len(allowed)} plans by digest"
    )
    error = None
    if allowed is not None and plan.digest not in allowed:
        listed = [digest[:12] for digest in allowed]
        error = _beyond("SMR-E362", "the plan", f"allowed_plans = {listed}", plan.digest)
    return Admission("plan", f"digest {plan.digest[:12]}", allows, error)


def _mode(policy: SitePolicy, plan: FederationPlan) -> Admission:
    mode, error = plan.privacy.mode, None
    if mode not in policy.modes:
        error = _beyond("SMR-E311", "the privacy mode", f"modes {list(policy.modes)}", mode)
    return Admission("privacy mode", mode, ", ".join(policy.modes) or "none at all", error)


def _trust(plan: FederationPlan) -> Admission:
    """Under which trust the figures hold; the policy's modes are what allows it."""
    asks = f"{trust_in_words(plan)}; epsilon hides a {unit_in_words(plan)}"
    return Admission("trust", asks, f"what mode {plan.privacy.mode!r} needs", None)


def _soundness(plan: FederationPlan) -> Admission:
    error = None
    try:
        refuse_unsound(plan)
    except SmrfedError as refusal:
        error = refusal
    asks = f"site_norm {plan.adaptation.site_norm}, personalise {plan.adaptation.personalise}"
    allows = "no un-noised state that steers a later release" if plan.privacy.mode != "none" else (
        "anything: no guarantee is given"
    )  # fmt: skip
    return Admission("composition", asks, allows, error)


def _budget(policy: SitePolicy, plan: FederationPlan) -> Iterator[Admission]:
    privacy, cap = plan.privacy, policy.plan_epsilon_cap
    error = None
    if privacy.epsilon > cap:
        per_plan = cap < policy.max_epsilon
        limit = f"{'max_epsilon_per_plan' if per_plan else 'max_epsilon'} = {cap}"
        error = _beyond("SMR-E312", "epsilon", limit, privacy.epsilon)
    yield Admission("epsilon of the plan", f"{privacy.epsilon:g}", f"{cap:g}", error)
    error = None
    if privacy.delta > policy.max_delta:
        limit = f"max_delta = {policy.max_delta}"
        error = _beyond("SMR-E313", "delta", limit, privacy.delta)
    yield Admission("delta of the plan", f"{privacy.delta:g}", f"{policy.max_delta:g}", error)
    needed = plan_epsilon(plan)
    error = None
    if needed > privacy.epsilon:
        error = SmrfedError(
            "SMR-E315",
            f"the releases of plan {plan.name!r} cost more than its own budget",
            expected=f"epsilon <= {privacy.epsilon} at delta {privacy.delta:g}",
            found=f"{needed:.6g} at noise multiplier {privacy.noise_multiplier}",
            remedy="ask the coordinator for more noise, fewer steps or a lower sampling rate "
            "(shared_model.privacy.plan_cost.calibrate_plan_noise gives the multiplier)",
        )
    asks = f"epsilon {needed:.3f} for all its releases"
    if privacy.summed:
        asks += f", and {grid_delta(plan, needed):.1g} on delta for the integer grid"
    yield Admission("cost of the plan", asks, f"{privacy.epsilon:g}, its own budget", error)


def _statistics(policy: SitePolicy, plan: FederationPlan) -> Iterator[Admission]:
    """Counts and sums about patients that the plan wants released beside the updates."""
    for subject, wanted, field, allowed in (
        (
            "evaluation",
            plan.evaluation.release_every > 0,
            "allow_evaluation",
            policy.allow_evaluation,
        ),
        (
            "calibration",
            plan.calibration.releases,
            "allow_calibration",
            policy.allow_calibration,
        ),
        (
            "site moments",
            plan.adaptation.site_moments != "off",
            "allow_moments",
            policy.allow_moments,
        ),
    ):
        noised = "noised and accounted" if plan.privacy.mode != "none" else "without noise"
        asks = f"releases on patients, {noised}" if wanted else "none"
        error = None
        if wanted and not allowed:
            error = _beyond("SMR-E364", f"the plan's {subject}", f"{field} = false", asks)
        yield Admission(subject, asks, "allowed" if allowed else "not allowed", error)


def _beyond(code: str, what: str, limit: str, found: object) -> SmrfedError:
    return SmrfedError(
        code,
        f"{what} is beyond what this hospital's policy allows",
        expected=limit,
        found=found,
        remedy="decline the plan, or let the data protection officer change the policy file",
    )
