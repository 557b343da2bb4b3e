"""Every patient is tested once: a cohort gives four times the test patients of one split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from client.training.examples import PatientExamples
from simulations.arms.hospital import Hospital
from simulations.cohort.subject import named_rng

#: Training and test patients by hospital.
Sides = dict[str, tuple[Sequence[PatientExamples], Sequence[PatientExamples]]]


def cross_fit(hospitals: Mapping[str, Hospital], folds: int, seed: int) -> Iterator[Sides]:
    """``folds`` splits in which every patient of a hospital is on the test side exactly once.

    Within a hospital each diagnosis is spread over the folds as evenly as whole patients can be:
    by an independent split, a fold that trains on many of one diagnosis has few of it to test.
    """
    if folds < 2:
        raise ValueError(f"at least two folds, not {folds}")
    parts = {name: _fold_of(hospital, folds, seed) for name, hospital in hospitals.items()}
    for fold in range(folds):
        sides: Sides = {}
        for name, hospital in hospitals.items():
            pairs = list(zip(_everybody(hospital), parts[name], strict=True))
            sides[name] = (
                [patient for patient, part in pairs if part != fold],
                [patient for patient, part in pairs if part == fold],
            )
        yield sides


def _fold_of(hospital: Hospital, folds: int, seed: int) -> list[int]:
    label = np.array([int(patient.labels[0]) for patient in _everybody(hospital)])
    rng = named_rng(seed, "battery", "folds", hospital.name)
    order = np.concatenate([rng.permutation(np.flatnonzero(label == c)) for c in np.unique(label)])
    fold = np.empty(len(label), dtype=np.int64)
    fold[order] = np.arange(len(label)) % folds
    return [int(part) for part in fold]


def _everybody(hospital: Hospital) -> Sequence[PatientExamples]:
    return (*hospital.train, *hospital.test)
