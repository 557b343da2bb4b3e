"""One hospital's predictions with what its archive knows of the patients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from client.archive.labels import LabelMapping
from client.archive.patients import Patient
from client.archive.progression import read_progression
from client.archive.scanner_facts import scanner_facts
from shared_model.evaluation.table import Floats, Ints, PredictionTable

_MCI = "MCI"


def site_table(
    site: str,
    dataset: Path,
    mapping: LabelMapping,
    labels: tuple[str, ...],
    patients: Sequence[Patient],
    label: Ints,
    probability: Floats,
    *,
    seen: bool,
) -> PredictionTable:
    """A row per patient, named ``site/patient``; sex, age and scanner are of the first scan.

    Args:
        site: the hospital.
        dataset: its BIDS dataset, for scanner and progression.
        mapping: its words and columns.
        labels: the plan's classes, in the order of ``probability``.
        patients: N of them, in the order of the rows.
        label: ``(N,)`` classes as they were scored.
        probability: ``(N, C)``.
        seen: whether the hospital took part in training.

    Raises:
        SmrfedError: SMR-E204 and E210 for tables that cannot be read, SMR-E612 for impossible rows.
    """
    root = dataset.resolve()
    courses = read_progression(root, mapping, labels, {p.id: p.scans[0].session for p in patients})
    scanners = [scanner_facts(root, patient.scans[0].path) for patient in patients]
    progression: list[str | None] = []
    for patient, y in zip(patients, label, strict=True):
        course = courses.get(patient.id)
        has_mci = labels[y] == _MCI
        progression.append((course.label if course else "uMCI") if has_mci else None)
    return PredictionTable(
        labels=labels,
        patient=tuple(f"{site}/{patient.id}" for patient in patients),
        site=(site,) * len(patients),
        label=np.asarray(label, dtype=np.int64),
        probability=np.asarray(probability, dtype=np.float64),
        seen=np.full(len(patients), seen),
        sex=tuple(patient.sex for patient in patients),
        age=np.array([np.nan if p.age is None else p.age for p in patients]),
        field_strength_t=np.array(
            [np.nan if s.field_strength_t is None else s.field_strength_t for s in scanners]
        ),
        vendor=tuple(scanner.vendor for scanner in scanners),
        progression=tuple(progression),
        scans=np.array([len(patient.scans) for patient in patients], dtype=np.int64),
    )
