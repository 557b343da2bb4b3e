"""Tables for the baselines from what a hospital's archive says of its patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from client.archive.patients import Patient
from simulations.baselines.subject_table import Floats, SubjectTable

#: Region volumes ``(R,)`` and brain volume, ml, by site and patient.
Volumes = Mapping[tuple[str, str], tuple[Floats, float]]


def patient_table(
    patients: Sequence[tuple[str, Patient]],
    labels: tuple[str, ...],
    regions: tuple[str, ...] = (),
    volumes: Volumes | None = None,
) -> SubjectTable:
    """First visits of patients ``(site, patient)``, in their order; volumes where they are known.

    Raises SMR-E691 where an age or a sex is missing.
    """
    n = len(patients)
    ml, icv = np.ones((n, len(regions))), np.ones(n)
    if volumes is not None:
        for row, (site, patient) in enumerate(patients):
            ml[row], icv[row] = volumes[site, patient.id]
    return SubjectTable(
        classes=labels,
        regions=regions,
        ids=tuple(f"{site}/{patient.id}" for site, patient in patients),
        site=tuple(site for site, _ in patients),
        label=np.asarray([patient.label for _, patient in patients], dtype=np.int64),
        age=np.asarray(
            [np.nan if patient.age is None else patient.age for _, patient in patients],
            dtype=np.float64,
        ),
        sex=tuple(patient.sex or "" for _, patient in patients),
        volumes_ml=ml,
        icv_ml=icv,
    )
