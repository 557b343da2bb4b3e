"""What the hospital knows of a scan beside its volume, for models that ask for more."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from client.archive.clinical import clinical_values
from client.archive.lesions import read_lesions
from client.archive.patients import Patient, Scan
from client.config import SiteConfig
from client.prepared.connectome_fields import connectome_field
from client.prepared.lesion_grid import lesions_to_grid
from client.prepared.volume_field import VolumeField
from shared_model.clinical.encoding import encode_clinical
from shared_model.inputs import INPUT_FIELDS
from shared_model.plan import FederationPlan


@dataclass(frozen=True)
class ScanFields:
    """Fields by name, each read from the archive's tables or derivatives when it is asked for."""

    config: SiteConfig
    plan: FederationPlan

    def field(self, name: str, patient: Patient, scan: Scan) -> npt.NDArray[np.float32]:
        """One of :data:`shared_model.inputs.INPUT_FIELDS`, without the batch dimension."""
        match name:
            case "clinical":
                section = self.plan.input.clinical
                values = clinical_values(section, self.config.columns, patient, scan)
                return encode_clinical(section, values)
            case "structural" | "functional" | "has_structural" | "has_functional":
                return connectome_field(self.config, self.plan, name, patient, scan)
            case "region_volumes":
                return self._volumes.of(scan)
            case _:
                raise KeyError(f"{name!r} is not among {sorted(INPUT_FIELDS)}")

    @cached_property
    def _volumes(self) -> VolumeField:
        return VolumeField(self.config, self.plan)

    def lesions(self, patient: Patient, scan: Scan) -> npt.NDArray[np.int16]:
        """``(D, H, W)`` lesion numbers on the model grid, 0 for none; SMR-E225 to E228."""
        found = read_lesions(self.config.dataset, patient, scan)
        return lesions_to_grid(found.numbers, found.affine, self.plan.input.grid)
