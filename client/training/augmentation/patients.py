"""Patients as one training step sees them: several augmented views of every scan."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import overload

from torch import Tensor

from client.training.augmentation.views import PlannedViews
from client.training.examples import InputReader, PatientExamples
from client.training.scan_inputs import with_volume
from shared_model.batch import Batch, Inputs


class AugmentedPatients(Sequence[PatientExamples]):
    """The patients of one step, each made when it is asked for.

    A scan becomes ``multiplicity`` views with its label, so the mean over a patient's inputs is the
    mean over scans and views: gradients are averaged before the one clip of the patient
    (augmentation multiplicity, De et al. 2022, arXiv:2204.13650). The guarantee is unchanged: a
    patient's contribution is still a function of this patient and public values, clipped to C. The
    neighbouring relation, the noise and the accounting do not see how many views there were.

    Args:
        patients: as prepared; with a frozen encoder they hold their ``views``.
        views: of the plan.
        round_number: of the instruction, from 1.
        step: local step, from 0.
    """

    def __init__(
        self,
        patients: Sequence[PatientExamples],
        views: PlannedViews,
        round_number: int,
        step: int,
    ) -> None:
        self._patients = patients
        self._views = views
        self._round = round_number
        self._step = step

    def __len__(self) -> int:
        return len(self._patients)

    @overload
    def __getitem__(self, index: int) -> PatientExamples: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PatientExamples]: ...
    def __getitem__(self, index: int | slice) -> PatientExamples | Sequence[PatientExamples]:
        """One patient's views, or the same step for some of the patients."""
        if isinstance(index, slice):
            return AugmentedPatients(self._patients[index], self._views, self._round, self._step)
        patient = self._patients[index]
        draws = self._views.section.multiplicity
        labels = patient.labels.repeat_interleave(draws, dim=0)
        if isinstance(patient.inputs, Batch):
            return PatientExamples(patient.id, self._chosen(patient), labels)
        volumes = AugmentedVolumes(patient.id, patient.inputs, self._views, self._round, self._step)
        return PatientExamples(patient.id, volumes, labels)

    def _chosen(self, patient: PatientExamples) -> Batch:
        if patient.views is None:
            raise ValueError("the plan augments, but the examples were made without training=True")
        scans = len(patient.labels)
        count = len(patient.views) // scans
        rows = [
            scan * count + view
            for scan in range(scans)
            for view in self._views.chosen(patient.id, scan, count, self._round, self._step)
        ]
        return patient.views[rows]


class AugmentedVolumes:
    """``multiplicity`` fresh views of every scan of a patient, scan by scan, made when read."""

    def __init__(
        self,
        patient: str,
        scans: Tensor | InputReader,
        views: PlannedViews,
        round_number: int,
        step: int,
    ) -> None:
        self._patient = patient
        self._scans = scans
        self._views = views
        self._round = round_number
        self._step = step
        self._last: tuple[int, Inputs] | None = None

    def __len__(self) -> int:
        return len(self._scans) * self._views.section.multiplicity

    def read(self, index: int) -> Inputs:
        """One view, such as ``(1, 1, D, H, W)``."""
        scan, draw = divmod(index, self._views.section.multiplicity)
        if self._last is None or self._last[0] != scan:  # a scan is read once for all its views
            self._last = scan, self._scan(scan)
        fresh = partial(
            self._views.fresh,
            patient=self._patient,
            scan=scan,
            round_number=self._round,
            step=self._step,
            draw=draw,
        )
        return with_volume(self._last[1], fresh)

    def _scan(self, index: int) -> Inputs:
        if isinstance(self._scans, Tensor):
            return self._scans[index : index + 1]
        return self._scans.read(index)
