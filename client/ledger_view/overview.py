"""What the ledger says, as numbers that a table, a drawing and an export are made from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from client.egress.policy import SitePolicy
from client.egress.receipts import Receipt
from client.privacy.ledger import Ledger
from client.privacy.ledger_entries import LedgerEntry
from client.privacy.per_patient import exposure_epsilon
from shared_model.plan import FederationPlan, PrivacyMode
from shared_model.privacy.trust import trust_in_words


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True)


class PatientLevel(_Figures):
    """``patients`` patients have spent ``epsilon`` (add or remove one; beside it: replace one)."""

    epsilon: float
    replace_one: float | None
    patients: int


class PlanShare(_Figures):
    """What one plan has cost its worst patient, by itself, at its own delta.

    ``trust``: who must be trusted for that figure to hold; ``None`` for an unknown plan.
    """

    name: str
    digest: str
    delta: float
    epsilon: float
    epsilon_budget: float | None
    releases: dict[str, int]
    mode: PrivacyMode | None = None
    trust: str | None = None


class Overview(_Figures):
    """The figures of a ledger; nobody's identifier or keyed hash is in it.

    ``epsilon``, ``replace_one``, ``remaining`` are those of the patient who has spent most. Figures
    that are not finite are ``None``. ``without_privacy`` releases were made in mode ``none``: no
    epsilon covers them, and what the others say holds for patients who were in none of them.
    """

    delta: float
    max_epsilon: float
    epsilon: float
    replace_one: float | None
    remaining: float
    median: float
    patients: int
    levels: tuple[PatientLevel, ...]
    plans: tuple[PlanShare, ...]
    entries: tuple[dict[str, Any], ...]
    without_privacy: int = 0


def overview(
    ledger: Ledger,
    policy: SitePolicy,
    plans: Sequence[FederationPlan],
    receipts: Sequence[Receipt] = (),
) -> Overview:
    """Read the ledger; ``plans`` are those that the site accepted, for their names and budgets.

    ``receipts`` say what left without privacy, which the ledger does not hold.
    """
    delta = policy.max_delta
    entries = ledger.entries()
    levels = _levels(ledger, delta)
    highest = levels[0] if levels else PatientLevel(epsilon=0.0, replace_one=0.0, patients=0)
    return Overview(
        delta=delta,
        max_epsilon=policy.max_epsilon,
        epsilon=highest.epsilon,
        replace_one=highest.replace_one,
        remaining=max(0.0, policy.max_epsilon - highest.epsilon),
        median=_median(levels),
        patients=sum(level.patients for level in levels),
        levels=levels,
        plans=tuple(_shares(ledger, entries, plans, delta)),
        entries=tuple(_shown(entries)),
        without_privacy=_without_privacy(receipts),
    )


def _without_privacy(receipts: Sequence[Receipt]) -> int:
    """Releases of patients' numbers in mode ``none``; the end of a run carries none."""
    left = {
        (made.run_id, made.round, made.kind)
        for made in (receipt.decision for receipt in receipts)
        if made.released and made.mode == "none" and made.kind != "finalise"
    }
    return len(left)


def _levels(ledger: Ledger, delta: float) -> tuple[PatientLevel, ...]:
    patients: Counter[float] = Counter()
    replaced: dict[float, float] = {}
    for exposure, count in ledger.exposures().items():
        epsilon = exposure_epsilon(exposure, delta)
        other = exposure_epsilon(exposure, delta, "replace_one")
        patients[epsilon] += count
        replaced[epsilon] = max(other, replaced.get(epsilon, 0.0))
    return tuple(
        PatientLevel(epsilon=e, replace_one=_finite(replaced[e]), patients=patients[e])
        for e in sorted(patients, reverse=True)
    )


def _median(levels: Sequence[PatientLevel]) -> float:
    """The epsilon that half of the patients have not exceeded."""
    left = (sum(level.patients for level in levels) + 1) // 2
    for level in reversed(levels):
        left -= level.patients
        if left <= 0:
            return level.epsilon
    return 0.0


def _shares(
    ledger: Ledger,
    entries: Sequence[LedgerEntry],
    plans: Sequence[FederationPlan],
    delta: float,
) -> list[PlanShare]:
    known = {plan.digest: plan for plan in plans}
    out = []
    private = [plan.digest for plan in plans if plan.privacy.mode != "none"]
    for digest in dict.fromkeys([*private, *(entry.plan_digest for entry in entries)]):
        plan = known.get(digest)
        own = plan.privacy.delta if plan else delta
        out.append(
            PlanShare(
                name=plan.name if plan else "(no longer among the accepted plans)",
                digest=digest,
                delta=own,
                epsilon=ledger.spent(own, digest),
                epsilon_budget=plan.privacy.epsilon if plan else None,
                releases=dict(Counter(e.purpose for e in entries if e.plan_digest == digest)),
                mode=plan.privacy.mode if plan else None,
                trust=trust_in_words(plan) if plan else None,
            )
        )
    return out


def _shown(entries: Sequence[LedgerEntry]) -> list[dict[str, Any]]:
    # Cohorts by order of appearance: their digests stay in the ledger.
    cohorts: dict[str, int] = {}
    return [
        {
            "id": entry.id,
            "time": entry.time,
            "run": entry.run_id,
            "round": entry.round,
            "purpose": entry.purpose,
            "plan": entry.plan_digest,
            "noise_multiplier": entry.use.noise_multiplier,
            "sampling_rate": entry.use.sampling_rate,
            "steps": entry.use.steps,
            "cohort": cohorts.setdefault(entry.cohort, len(cohorts) + 1),
            "patients": entry.patients,
            "state": entry.state,
        }
        for entry in entries
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
