"""Canary patients in SMR-Net itself: real synthetic scans under a wrong diagnosis, one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from client.training.examples import PatientExamples
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays
from simulations.arms.train_rounds import train_rounds
from simulations.audit.claim import Claim
from simulations.audit.evidence import OneRunEvidence
from simulations.audit.gradient_game import Played
from simulations.audit.hospital_study import AuditedHospital
from simulations.audit.patient_scores import loss_scores, update_scores
from simulations.audit.verdict import Attack, Tell

Seen = Literal["updates", "model"]

_TITLES: dict[Seen, tuple[str, str]] = {
    "updates": (
        "mislabelled patients in SMR-Net, from the updates",
        "inserts patients with a wrong diagnosis, has their scans, sees the update of every round",
    ),
    "model": (
        "mislabelled patients in SMR-Net, from the final model",
        "inserts patients with a wrong diagnosis, has their scans, sees the released model only",
    ),
}


def patient_canary_attack(hospital: AuditedHospital, seen: Seen) -> Attack:
    """One run of the private plan on the members and on a random half of the canaries.

    Canaries are the outsiders of the hospital, each under one of the other diagnoses. Training goes
    through ``train_round``; the hospital's agent takes no patients by coin.
    """
    title, threat_model = _TITLES[seen]
    plan = hospital.plans["local"]
    return Attack(
        title,
        threat_model,
        Claim.of(plan),
        lambda seed, tell: _run(hospital, plan, seen, seed, tell),
    )


def _run(
    hospital: AuditedHospital, plan: FederationPlan, seen: Seen, seed: int, tell: Tell
) -> OneRunEvidence:
    rng = np.random.default_rng([seed, 2])
    canaries = mislabelled(hospital.outsiders, len(plan.task.labels), rng)
    included = rng.random(len(canaries)) < 0.5
    chosen = [canaries[index] for index in np.flatnonzero(included)]
    bodies = [hospital.initial]
    rounds = plan.training.rounds

    def follow(number: int, body: Arrays) -> None:
        bodies.append(body)
        tell(number / (2 * rounds))

    sites = {hospital.name: [*hospital.members, *chosen]}
    train_rounds(hospital.model, dict(hospital.initial), sites, plan, follow)
    if seen == "model":
        # The difference from what the public model says is what training added.
        scores = loss_scores(hospital.model, bodies[-1], canaries) - loss_scores(
            hospital.model, bodies[0], canaries
        )
    else:
        scores = update_scores(
            hospital.model, bodies, canaries, lambda done, total: tell(0.5 + done / (2 * total))
        )
    tell(1.0)
    return OneRunEvidence(Played(scores, scores, included))


def mislabelled(
    patients: Sequence[PatientExamples], classes: int, rng: np.random.Generator
) -> list[PatientExamples]:
    """Every patient with all scans under one wrong label."""
    return [
        replace(
            patient,
            id=f"canary-{index}",
            labels=(patient.labels + int(rng.integers(1, classes))) % classes,
        )
        for index, patient in enumerate(patients)
    ]
