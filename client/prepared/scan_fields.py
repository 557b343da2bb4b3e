"""What the hospital knows of a scan beside its volume, for models that ask for more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.archive.patients import Patient, Scan
from client.config import SiteConfig
from shared_model.inputs import INPUT_FIELDS
from shared_model.plan import FederationPlan


@dataclass(frozen=True)
class ScanFields:
    """Fields by name, each read from the archive's tables or derivatives when it is asked for."""

    config: SiteConfig
    plan: FederationPlan

    def field(self, name: str, patient: Patient, scan: Scan) -> npt.NDArray[np.float32]:
        """One of :data:`shared_model.inputs.INPUT_FIELDS`, without the batch dimension."""
        raise KeyError(f"{name!r} is not among {sorted(INPUT_FIELDS)}")

    def lesions(self, patient: Patient, scan: Scan) -> npt.NDArray[np.int16]:
        """``(D, H, W)`` lesion numbers on the model grid, 0 for none."""
        raise KeyError("lesions")
