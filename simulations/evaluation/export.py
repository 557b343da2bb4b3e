"""Predictions of a simulation's arms as tables, with what the archives know of the patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from client.config import SiteConfig
from client.evaluation.site_table import site_table
from shared_model.evaluation.table import PredictionTable
from shared_model.evaluation.table_file import write_csv, write_text
from simulations.arms.arm import ArmResult
from simulations.arms.hospital import Hospital
from simulations.evaluation.run_folder import PREDICTIONS, TRAINED_ON
from simulations.federation.workspace import Workspace


def patient_tables(
    hospitals: Sequence[Hospital], workspace: Workspace, labels: tuple[str, ...]
) -> dict[str, PredictionTable]:
    """Everything but predictions about the test patients of every hospital, by site."""
    out = {}
    for hospital in hospitals:
        config = SiteConfig.load(workspace.site_config(hospital.name))
        patients = hospital.test_patients
        out[hospital.name] = site_table(
            hospital.name,
            config.dataset,
            config.label_mapping,
            labels,
            patients,
            np.array([patient.label for patient in patients], dtype=np.int64),
            np.full((len(patients), len(labels)), 1 / len(labels)),
            seen=not hospital.held_out,
        )
    return out


def arm_table(arm: ArmResult, known: dict[str, PredictionTable]) -> PredictionTable | None:
    """An arm's predictions at every site where it has one model; None where it has none.

    Where hospitals trained alone, an unseen patient has as many predictions as there are
    hospitals: no table of one row per patient can hold them, and their mean would be an ensemble.
    """
    parts = []
    for site, predictions in arm.predictions.items():
        if len(set(predictions.patients)) == len(predictions.patients):
            own = replace(
                known[site],
                patient=predictions.patients,
                label=predictions.label,
                probability=predictions.probability,
            )
            # The order is that of the test patients: anything else would mix people up.
            parts.append(own.in_order_of(known[site]))
    return PredictionTable.join(parts) if parts else None


def write_predictions(
    arms: Sequence[ArmResult],
    hospitals: Sequence[Hospital],
    workspace: Workspace,
    labels: tuple[str, ...],
    out: Path,
) -> dict[str, PredictionTable]:
    """Write ``predictions/ARM.csv`` and the training patients' names; returns the tables.

    ``smrfed-sim evaluate`` reads them. Raises SMR-E617.
    """
    known = patient_tables(hospitals, workspace, labels)
    tables = {arm.key: table for arm in arms if (table := arm_table(arm, known)) is not None}
    for key, table in tables.items():
        write_csv(table, out / PREDICTIONS / f"{key}.csv")
    names = sorted(trained_on(hospitals))
    write_text(out / PREDICTIONS / TRAINED_ON, "".join(f"{name}\n" for name in names))
    return tables


def trained_on(hospitals: Sequence[Hospital]) -> set[str]:
    """``site/patient`` of everybody whom some arm may have trained on."""
    return {f"{h.name}/{patient.id}" for h in hospitals for patient in h.train_patients}
