"""Which patients train and which test, decided for each of them alone."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from client.archive.content import files_of_several_patients
from client.archive.patients import Patient
from shared_model.errors import SmrfedError


@dataclass(frozen=True)
class Split:
    """Patients to train on, and patients that are only ever tested on; in the order given.

    The unit is the patient, never a scan or a slice: no patient is on both sides. Raises SMR-E231
    for a patient, or an image file, that is.
    """

    train: tuple[Patient, ...]
    test: tuple[Patient, ...]

    def __post_init__(self) -> None:
        both = sorted({p.id for p in self.train} & {p.id for p in self.test})
        test_ids = {patient.id for patient in self.test}
        copies = [
            " = ".join(str(path) for _, path in group)
            for group in files_of_several_patients([*self.train, *self.test])
            if 0 < len({patient for patient, _ in group} & test_ids) < len({p for p, _ in group})
        ]
        if both or copies:
            raise SmrfedError(
                "SMR-E231",
                "the same patient or image would be trained on and tested on",
                expected="every patient, and every image, on one side",
                found="; ".join([*both, *copies][:5]),
                remedy="correct the archive: one subject per person, one subject per image",
            )


def split_patients(patients: Sequence[Patient], test_fraction: float, seed: int) -> Split:
    """Put each patient to training or to test by a keyed hash of the patient's identifier alone.

    Differential privacy compares an archive with the same one plus or minus a patient. Were the
    split drawn from the list of patients (a shuffle, a stratified or an exact quarter), adding one
    person would move others between the sides, and one patient would change the training set by
    many: the guarantee would no longer hold for one patient. Here nobody else moves, in whatever
    order or number the others come. The price is that the test side holds about, not exactly,
    ``test_fraction`` of the patients.

    Args:
        patients: everybody, distinct identifiers.
        test_fraction: probability of the test side, between 0 and 1.
        seed: of the plan; public.

    Raises:
        SmrfedError: SMR-E230 when a side is empty, SMR-E231 when something is on both.
    """
    test = {patient.id for patient in patients if position(patient.id, seed) < test_fraction}
    split = Split(
        tuple(patient for patient in patients if patient.id not in test),
        tuple(patient for patient in patients if patient.id in test),
    )
    refuse_empty_side(split, test_fraction)
    return split


def refuse_empty_side(split: Split, test_fraction: float) -> None:
    """Raise SMR-E230 unless there is somebody to train on and somebody to test on."""
    if not (split.train and split.test):
        raise SmrfedError(
            "SMR-E230",
            f"the split leaves nobody to {'test' if split.train else 'train'} on",
            expected=f"patients on both sides, about {test_fraction:.0%} of them to test",
            found=f"{len(split.train) + len(split.test)} patients in all",
            remedy="a hospital needs more patients (about ten at least); or another seed or "
            "test_fraction in the plan",
        )


def position(patient_id: str, seed: int) -> float:
    """A uniform number in [0, 1) that only the patient and the seed decide."""
    key = f"smrfed split {seed}".encode()
    digest = hmac.digest(key, patient_id.encode("utf-8", "surrogateescape"), hashlib.sha256)
    # 53 bits: what a float holds exactly.
    return (int.from_bytes(digest[:8]) >> 11) / 2**53
