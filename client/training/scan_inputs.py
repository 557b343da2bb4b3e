"""The inputs of one scan as the plan's model asks for them, and what training compares with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from client.archive.patients import Patient, Scan
from client.training.site_model import SiteModel
from shared_model.batch import Inputs
from shared_model.inputs import input_fields


class VolumeSource(Protocol):
    """Where prepared volumes come from; the prepared store of the hospital."""

    def volume(self, scan: Scan) -> npt.NDArray[np.float32]:
        """``(D, H, W)`` on the model grid, standardised."""
        ...


class FieldSource(Protocol):
    """Where the rest comes from that a model may ask for; the hospital's tables and derivatives."""

    def field(self, name: str, patient: Patient, scan: Scan) -> npt.NDArray[np.float32]:
        """One of :data:`shared_model.inputs.INPUT_FIELDS` of one scan, without the batch."""
        ...

    def lesions(self, patient: Patient, scan: Scan) -> npt.NDArray[np.int16]:
        """``(D, H, W)`` lesion numbers on the model grid, 0 for none."""
        ...


@dataclass(frozen=True)
class ScanInputs:
    """Inputs of the scans of one patient, read one at a time."""

    site_model: SiteModel
    source: VolumeSource
    patient: Patient
    fields: FieldSource | None = None

    def __len__(self) -> int:
        return len(self.patient.scans)

    def read(self, index: int) -> Inputs:
        """One scan: ``(1, 1, D, H, W)``, or a batch of one."""
        scan = self.patient.scans[index]
        batch = self.site_model.entry.batch
        values = {name: self._field(name, scan) for name in input_fields(batch)}
        return values["volume"] if batch is None else batch(**values)

    def targets(self) -> Tensor:
        """``(S,)`` class indices, or ``(S, D, H, W)`` lesion numbers."""
        scans, device = self.patient.scans, self.site_model.device
        if self.site_model.entry.task == "classification":
            return torch.tensor([scan.label for scan in scans], device=device)
        maps = np.stack([self._others.lesions(self.patient, scan) for scan in scans])
        return torch.from_numpy(maps).to(device)

    @property
    def _others(self) -> FieldSource:
        if self.fields is None:
            raise ValueError("this model needs more than volumes: give the hospital's fields")
        return self.fields

    def _of_visit_before(self, name: str, scan: Scan) -> Tensor:
        before = visit_before(self.patient, scan)
        if name == "earlier_volume":
            return self._field("volume", before or scan)
        years = (scan.age or 0.0) - (before.age or 0.0) if before is not None else 0.0
        return torch.tensor([years], dtype=torch.float32, device=self.site_model.device)

    def _field(self, name: str, scan: Scan) -> Tensor:
        if name == "volume":
            volume = torch.from_numpy(np.ascontiguousarray(self.source.volume(scan)))
            return volume[None, None].to(self.site_model.device)
        if name in ("earlier_volume", "years_between"):
            return self._of_visit_before(name, scan)
        # A flag stays a number: ascontiguousarray would give it a dimension.
        value = np.asarray(self._others.field(name, self.patient, scan), np.float32, order="C")
        return torch.from_numpy(value)[None].to(self.site_model.device)


def visit_before(patient: Patient, scan: Scan) -> Scan | None:
    """The newest scan of the patient that is older than this one; none without ages.

    By age alone: a scan of the same age, or one that the table puts later, is no earlier visit.
    """
    if scan.age is None:
        return None
    older = [s for s in patient.scans if s.age is not None and s.age < scan.age]
    return max(older, key=lambda s: s.age or 0.0, default=None)


def volume_of(inputs: Inputs) -> Tensor:
    """The volume ``(1, 1, D, H, W)`` among the inputs of one scan."""
    return inputs if isinstance(inputs, Tensor) else inputs.tensors()["volume"]


def with_volume(inputs: Inputs, made: Callable[[Tensor], Tensor]) -> Inputs:
    """The same scan with another volume, as augmentation makes it."""
    volume = made(volume_of(inputs))
    return (
        volume
        if isinstance(inputs, Tensor)
        else type(inputs)(**{**inputs.tensors(), "volume": volume})
    )
