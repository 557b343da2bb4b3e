"""What a scenario measured beside predictions, as files that ``smrfed-sim evaluate`` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from shared_model.evaluation.side_tables import (
    CorruptedTable,
    Embeddings,
    write_corrupted,
    write_embeddings,
)
from shared_model.evaluation.table_file import write_text
from simulations.evaluation.run_folder import CORRUPTED, EMBEDDINGS, PREDICTIONS, TRAINED_ON
from simulations.scenarios.hospitals import folds
from simulations.scenarios.jobs import Job
from simulations.scenarios.load import NamedScenario
from simulations.scenarios.records import Record, Records


def write_beside(named: NamedScenario, jobs: Sequence[Job], records: Records, out: Path) -> None:
    """Write ``embeddings/ARM.csv``, ``corrupted/ARM.csv`` and the training patients' names.

    Patients are named as in ``predictions/``: ``seedN/site/patient``. Where hospitals are left out
    in turn there are no names of training patients: everybody was trained on by some model.
    """
    found = {job: record for job in jobs if (record := records.find(job)) is not None}
    in_turn = len(folds(named.scenario)) > 1
    if not in_turn:
        names = {f"seed{job.seed}/{name}" for job, one in found.items() for name in one.trained_on}
        write_text(out / PREDICTIONS / TRAINED_ON, "".join(f"{name}\n" for name in sorted(names)))
    section = named.scenario.beside
    for arm in () if section is None else section.arms:
        own = [(job, one) for job, one in found.items() if arm in job.arms and job.repeat == 0]
        spaces = [
            _space(job, one.embeddings, in_turn) for job, one in own if one.embeddings is not None
        ]
        if spaces:
            write_embeddings(_joined(spaces), out / EMBEDDINGS / f"{arm}.csv")
        worse = [part for job, one in own if (part := _worse(job, one, in_turn)) is not None]
        if worse:
            write_corrupted(_all_worse(worse), out / CORRUPTED / f"{arm}.csv")


def _space(job: Job, table: Embeddings, in_turn: bool) -> Embeddings:
    """Named after the cohort, and after who was left out where that differs."""
    name = f"seed {job.seed}" + (f" without {', '.join(job.held_out)}" if in_turn else "")
    return replace(
        table,
        model=(name,) * len(table.patient),
        patient=tuple(f"seed{job.seed}/{patient}" for patient in table.patient),
    )


def _joined(parts: Sequence[Embeddings]) -> Embeddings:
    return Embeddings(
        tuple(name for part in parts for name in part.model),
        tuple(name for part in parts for name in part.patient),
        tuple(name for part in parts for name in part.site),
        tuple(name for part in parts for name in part.label),
        np.concatenate([part.trained for part in parts]),
        np.concatenate([part.z for part in parts]),
    )


def _worse(job: Job, record: Record, in_turn: bool) -> CorruptedTable | None:
    """Where hospitals are left out in turn, everybody as the unseen patient that they were."""
    table = record.corrupted
    if table is None:
        return None
    rows = [
        i
        for i, patient in enumerate(table.patient)
        if not in_turn or patient.split("/")[0] in job.held_out
    ]
    return replace(
        table,
        kind=tuple(table.kind[i] for i in rows),
        severity=table.severity[rows],
        patient=tuple(f"seed{job.seed}/{table.patient[i]}" for i in rows),
        probability=table.probability[rows],
    )


def _all_worse(parts: Sequence[CorruptedTable]) -> CorruptedTable:
    return CorruptedTable(
        parts[0].labels,
        tuple(kind for part in parts for kind in part.kind),
        np.concatenate([part.severity for part in parts]),
        tuple(name for part in parts for name in part.patient),
        np.concatenate([part.probability for part in parts]),
    )
