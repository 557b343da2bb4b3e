"""What a trained model shows beside its predictions: embeddings, and answers on worse scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from client.agent.embeddings import mean_embeddings
from client.training.scan_inputs import VolumeSource
from client.training.site_model import SiteModel
from shared_model.evaluation.beyond import Attack, AttackRate, Audit
from shared_model.evaluation.estimate import Estimate
from shared_model.evaluation.side_tables import CorruptedTable, Embeddings
from simulations.arms.arm import Arrays
from simulations.arms.hospital import Hospital
from simulations.audit.membership import Membership
from simulations.audit.results import AuditReport
from simulations.evaluation.corruption import Kind
from simulations.evaluation.robustness import corrupted_predictions


def embeddings_of(
    model: SiteModel, shared: Arrays, hospitals: Sequence[Hospital], name: str = ""
) -> Embeddings:
    """Everybody's embedding under a released model, as an unseen hospital runs it.

    Training patients too: a probe within class and hospital needs more than the test patients.
    """
    model.load_shared(dict(shared))
    model.reset_site()
    labels = model.plan.task.labels
    patients: list[str] = []
    sites: list[str] = []
    diagnoses: list[str] = []
    trained: list[bool] = []
    parts = []
    for hospital in hospitals:
        people = [*hospital.train, *hospital.test]
        if not people:
            continue
        y, z = mean_embeddings(model, people)
        parts.append(z)
        patients += [f"{hospital.name}/{one.id}" for one in people]
        sites += [hospital.name] * len(people)
        diagnoses += [labels[c] for c in y]
        trained += [True] * len(hospital.train) + [False] * len(hospital.test)
    return Embeddings(
        (name,) * len(patients),
        tuple(patients),
        tuple(sites),
        tuple(diagnoses),
        np.array(trained, dtype=bool),
        np.concatenate(parts),
    )


def corrupted_of(
    model: SiteModel,
    shared: Arrays,
    hospitals: Sequence[Hospital],
    sources: Mapping[str, VolumeSource],
    kinds: Sequence[Kind],
    severities: Sequence[int],
    seed: int,
) -> CorruptedTable:
    """Answers of a released model on the test patients' scans, made worse in every way.

    ``sources`` gives each hospital's prepared scans.
    """
    model.load_shared(dict(shared))
    model.reset_site()
    kind: list[str] = []
    severity: list[int] = []
    patient: list[str] = []
    parts = []
    for hospital in hospitals:
        if not hospital.test_patients:
            continue
        for found in corrupted_predictions(
            model,
            hospital.test_patients,
            sources[hospital.name],
            kinds=kinds,
            severities=severities,
            seed=seed,
        ):
            if found.severity:
                n = len(found.label)
                kind += [found.kind] * n
                severity += [found.severity] * n
                patient += [f"{hospital.name}/{one.id}" for one in hospital.test_patients]
                parts.append(found.probability)
    return CorruptedTable(
        model.plan.task.labels,
        tuple(kind),
        np.array(severity, dtype=np.int64),
        tuple(patient),
        np.concatenate(parts),
    )


def audit_of(report: AuditReport) -> Audit:
    """What an evaluation shows of ``smrfed-sim audit``'s report."""
    return Audit(
        command=report.command,
        smrfed=report.version,
        patients=report.patients,
        claimed_epsilon=report.claimed_epsilon,
        delta=report.delta,
        epsilon_at_least=max(one.epsilon_at_least for one in report.verdicts),
        refuted=any(one.refuted for one in report.verdicts),
        attacks=tuple(map(_attack, report.membership)),
    )


def _attack(one: Membership) -> Attack:
    return Attack(
        title=one.title,
        members=one.members,
        outsiders=one.outsiders,
        suppressed=False,
        auroc=Estimate.of(one.auroc, one.auroc_low, one.auroc_high),
        rates=tuple(
            AttackRate(
                false_positive_rate=rate.false_positive_rate,
                true_positive_rate=Estimate.of(rate.true_positive_rate, rate.low, rate.high),
                resolved=rate.resolved,
            )
            for rate in one.rates
        ),
    )
