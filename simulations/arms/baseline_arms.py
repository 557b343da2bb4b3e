"""The arms that see no image: prior, age and sex, and the true region volumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from client.archive.patients import Patient
from simulations.arms.arm import ArmResult
from simulations.arms.hospital import Hospital
from simulations.baselines.demographics import Demographics
from simulations.baselines.prior import Prior
from simulations.baselines.region_volumes import RegionVolumes
from simulations.baselines.subject_table import Baseline, SubjectTable
from simulations.cohort.truth import TruthTable
from simulations.evaluation.predictions import Predictions
from simulations.report.results import ArmRole

_ARMS: tuple[tuple[str, str, str, ArmRole, Baseline], ...] = (
    (
        "prior",
        "Prior",
        "Always answers with the class frequencies of the training patients.",
        "prior",
        Prior(),
    ),
    (
        "demographics",
        "Age and sex",
        "Logistic regression on age and sex, on all training patients pooled.",
        "demographics",
        Demographics(),
    ),
    (
        "volumes",
        "True region volumes",
        "Logistic regression on the true volumes of twelve regions, age and sex, pooled: what a "
        "perfect segmentation would allow, untouched by scanners.",
        "region_volumes",
        RegionVolumes(),
    ),
)


def baseline_arms(
    hospitals: Sequence[Hospital], truth: TruthTable, labels: tuple[str, ...]
) -> list[ArmResult]:
    """Fit each baseline on the pooled training patients and predict everybody's test patients."""

    def table(patients: Sequence[tuple[str, Patient]]) -> SubjectTable:
        return truth_rows([(site, patient.id) for site, patient in patients], truth, labels)

    return [
        ArmResult(key, title, what, role, baseline_predictions(baseline, hospitals, table))
        for key, title, what, role, baseline in _ARMS
    ]


def baseline_predictions(
    baseline: Baseline,
    hospitals: Sequence[Hospital],
    table: Callable[[Sequence[tuple[str, Patient]]], SubjectTable],
) -> dict[str, Predictions]:
    """Fit on the pooled training patients and predict everybody's test patients, by hospital.

    ``table`` turns patients ``(site, patient)`` into what the baseline may look at.
    """
    fitted = baseline.fit(table([(h.name, p) for h in hospitals for p in h.train_patients]))
    predictions = {}
    for hospital in hospitals:
        test = table([(hospital.name, patient) for patient in hospital.test_patients])
        predictions[hospital.name] = Predictions(test.ids, test.label, fitted.predict_proba(test))
    return predictions


def truth_rows(
    chosen: Sequence[tuple[str, str]], truth: TruthTable, labels: tuple[str, ...]
) -> SubjectTable:
    """First visits of the chosen patients, in their order."""
    first: dict[tuple[str, str], int] = {}
    for row, (site, patient) in enumerate(zip(truth.site, truth.participant, strict=True)):
        first.setdefault((str(site), str(patient)), row)
    rows = np.asarray([first[key] for key in chosen])
    return SubjectTable(
        classes=labels,
        regions=truth.regions,
        ids=tuple(f"{site}/{patient}" for site, patient in chosen),
        site=tuple(site for site, _ in chosen),
        label=np.asarray([labels.index(str(d)) for d in truth.diagnosis[rows]], dtype=np.int64),
        age=truth.age[rows],
        sex=tuple(str(s) for s in truth.sex[rows]),
        volumes_ml=truth.region_ml[rows],
        icv_ml=truth.icv_ml[rows],
    )
