"""A plan and a policy in plain words, line by line, for the person who has to decide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from client.egress.admission import admissions
from client.egress.policy import Shapes, SitePolicy
from client.egress.release_hours import opens_at
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import plan_epsilon, planned_releases

Verdict = Literal["allowed", "refused", "person", "note"]


@dataclass(frozen=True)
class Line:
    """One question: what the plan asks, what this hospital allows, and what follows from it.

    ``person`` needs somebody's decision; ``note`` is information. ``code`` is that of a refusal.
    """

    subject: str
    asks: str
    allows: str
    verdict: Verdict
    code: str | None = None


@dataclass(frozen=True)
class Circumstances:
    """What beside plan and policy the answer depends on.

    Attributes:
        site: this hospital's name.
        coordinator: fingerprint of the key in ``site.toml``; ``None`` when there is none yet.
        accepted: whether a person accepted the plan before.
        outgoing: names and shapes of an update; ``None`` where the training stack is missing.
        spent: epsilon that the ledger has spent at the plan's delta.
        now: the time, in UTC.
    """

    site: str
    coordinator: str | None
    accepted: bool
    outgoing: Shapes | None
    spent: float
    now: datetime


def explain(policy: SitePolicy, plan: FederationPlan, around: Circumstances) -> tuple[Line, ...]:
    """Every line; the plan is allowed when none is ``refused``."""
    lines = [_taking_part(plan, around), _coordinator(policy, around)]
    for admission in admissions(policy, plan, around.outgoing):
        code = None if admission.error is None else admission.error.code
        verdict: Verdict = "allowed" if code is None else "refused"
        if admission.asks == "none":
            verdict = "note"
        lines.append(Line(admission.subject, admission.asks, admission.allows, verdict, code))
    lines.append(Line("read of patients", _read(plan), "stays here", "note"))
    if plan.privacy.mode != "none":
        lines.append(_total(policy, plan, around))
    lines += _leaving(plan, around)
    lines += _when(policy, around)
    answer = "accepted before" if around.accepted else "not accepted yet: smrfed-site accept PLAN"
    lines.append(
        Line("agreement", answer, "a person agrees", "note" if around.accepted else "person")
    )
    return tuple(lines)


def _taking_part(plan: FederationPlan, around: Circumstances) -> Line:
    entries = [entry for entry in plan.federation.sites if entry.name == around.site]
    if not entries:
        named = ", ".join(entry.name for entry in plan.federation.sites)
        return Line("this site", named, around.site, "refused", "SMR-E104")
    declared = f"{around.site}, {entries[0].declared_patients} declared patients (public)"
    return Line("this site", declared, around.site, "allowed")


def _coordinator(policy: SitePolicy, around: Circumstances) -> Line:
    allowed = policy.coordinators
    allows = "the key that site.toml names" if allowed is None else ", ".join(allowed) or "nobody"
    if around.coordinator is None:
        return Line("coordinator", "no key here yet", allows, "person")
    refused = allowed is not None and around.coordinator not in allowed
    verdict: Verdict = "refused" if refused else "allowed"
    return Line("coordinator", around.coordinator, allows, verdict, "SMR-E363" if refused else None)


def _total(policy: SitePolicy, plan: FederationPlan, around: Circumstances) -> Line:
    """A forecast; the ledger composes exactly, patient by patient, when it is asked."""
    asks = f"{around.spent:.3f} spent so far, {plan_epsilon(plan):.3f} for this plan alone"
    allows = f"{policy.max_epsilon:g} over all plans and runs"
    if around.spent >= policy.max_epsilon:
        return Line("epsilon in total", asks, allows, "refused", "SMR-E302")
    return Line("epsilon in total", asks, allows, "note")


def _read(plan: FederationPlan) -> str:
    """What the plan itself asks of patients' records; the model's own inputs are named by it."""
    truth = "diagnoses" if plan.task.kind == "classification" else "lesion masks"
    clinical = plan.input.clinical
    named = ", ".join(variable.name for variable in clinical.used)
    said = f"clinical data ({clinical.mode}): {named}" if named else "no clinical data"
    return f"scans, {truth}; {said}; inputs of model {plan.model.name}: docs/models.md"


def _leaving(plan: FederationPlan, around: Circumstances) -> list[Line]:
    noised = "noised" if plan.privacy.mode != "none" else "without noise"
    lines = []
    for planned in planned_releases(plan):
        what = {
            "train": "part of the sum"
            if plan.privacy.summed
            else "update of the shared parameters",
            "evaluate": "counts on test patients",
            "calibrate": "sums for calibration",
            "moments": "moments of embeddings by class",
        }[planned.purpose]
        asks = f"{planned.count} times, {noised}"
        if planned.purpose == "train" and plan.privacy.mode == "distributed":
            asks = f"{planned.count} times, masked, with a share of the noise"
        elif planned.purpose == "train" and plan.privacy.mode == "central":
            asks = f"{planned.count} times, masked, without noise of this hospital's own"
        if planned.purpose == "train" and around.outgoing is not None:
            numbers = sum(math.prod(shape) for shape in around.outgoing.values())
            size = (8 if plan.privacy.summed else 4) * numbers
            asks += f": {len(around.outgoing)} arrays, {numbers:,} numbers, {size:,} bytes"
        lines.append(Line(f"leaves: {what}", asks, "as above", "note"))
    if plan.privacy.summed:
        asks = "around every round: nothing about patients, may leave at any hour"
        lines.append(Line("leaves: keys and shares of masks", asks, "as above", "note"))
    if around.outgoing is None:
        asks = f"names that match {list(plan.groups.shared)}"
        lines.append(Line("leaves: arrays", asks, "not listed: no model could be built", "note"))
    return lines


def _when(policy: SitePolicy, around: Circumstances) -> list[Line]:
    if policy.release_hours:
        opening = opens_at(policy.release_hours, around.now)
        asks = "never" if opening is None else f"{opening:%Y-%m-%d %H:%M} UTC"
        asks = "now" if opening == around.now else f"next at {asks}"
        allows = "; ".join(window.text() for window in policy.release_hours)
    else:
        asks, allows = "now", "at any hour"
    lines = [Line("data may leave", asks, allows, "note")]
    limits = [
        f"{limit:,} {unit}"
        for limit, unit in (
            (policy.max_releases_per_day, "replies"),
            (policy.max_bytes_per_day, "bytes"),
        )
        if limit is not None
    ]
    if limits:
        lines.append(Line("in any 24 hours", "", ", ".join(limits), "note"))
    return lines
