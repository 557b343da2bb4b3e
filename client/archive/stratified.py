"""A split with the same share of every label on both sides: for research without privacy only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from client.archive.patients import Patient
from client.archive.split import Split, position, refuse_empty_side
from shared_model.errors import SmrfedError
from shared_model.plan import PrivacyMode


def split_stratified(
    patients: Sequence[Patient], test_fraction: float, seed: int, mode: PrivacyMode
) -> Split:
    """Put the same share of every label to the test side; by patient, seeded.

    Of each label the patients with the smallest keyed hash are tested on, at least one and not all
    where the label has two patients. The order of the patients does not matter, but who else there
    is does: one more patient can move another from one side to the other. Under differential
    privacy one person would then change the training set by two, and the guarantee, which is stated
    for one, would no longer hold (:func:`client.archive.split.split_patients`). So it is refused
    there.

    Args:
        patients: everybody, distinct identifiers; ``label`` is that of the first visit.
        test_fraction: share of each label on the test side, between 0 and 1.
        seed: of the plan; public.
        mode: of the plan's privacy.

    Raises:
        SmrfedError: SMR-E234 unless ``mode`` is ``none``, SMR-E230 when a side is empty, SMR-E231
            when something is on both.
    """
    if mode != "none":
        raise SmrfedError(
            "SMR-E234",
            "a stratified split would void the patient-level privacy guarantee",
            expected="privacy mode 'none', or the split that decides each patient alone",
            found=f"privacy mode {mode!r}",
            remedy="leave the split unstratified; report results per label instead",
        )
    by_label: defaultdict[int, list[Patient]] = defaultdict(list)
    for patient in patients:
        by_label[patient.label].append(patient)
    test = set()
    for group in by_label.values():
        ordered = sorted(group, key=lambda patient: (position(patient.id, seed), patient.id))
        count = round(len(group) * test_fraction)
        if len(group) > 1:
            count = min(max(count, 1), len(group) - 1)
        test |= {patient.id for patient in ordered[:count]}
    split = Split(
        tuple(patient for patient in patients if patient.id not in test),
        tuple(patient for patient in patients if patient.id in test),
    )
    refuse_empty_side(split, test_fraction)
    return split
