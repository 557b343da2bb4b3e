"""What the steps hand to one another about one scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

Volume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Affine = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Image:
    """A volume and where it lies.

    Attributes:
        voxels: ``(I, J, K)`` float32, finite.
        affine: ``(4, 4)`` voxel to scanner mm.
    """

    voxels: Volume
    affine: Affine

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along each stored axis, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


@dataclass(frozen=True, eq=False)
class Work:
    """One scan between two steps; a step fills in what it finds and changes nothing else.

    Attributes:
        image: the scan; RAS+ after reorientation, corrected after the bias field.
        brain: ``(I, J, K)`` on the image's voxels, once it has been extracted.
        to_mni: ``(4, 4)`` scanner mm to MNI152 mm, once the scan has been registered.
        on_grid: ``(D, H, W)`` greys on the model grid, once resampled.
        brain_on_grid: ``(D, H, W)`` the brain there.
        findings: what a step measured, by name, for quality control; JSON values only.
    """

    image: Image
    brain: Mask | None = None
    to_mni: Affine | None = None
    on_grid: Volume | None = None
    brain_on_grid: Mask | None = None
    findings: Mapping[str, Any] = field(default_factory=dict)


class Step(Protocol):
    """One step of preparation. Deterministic, and a function of this scan and public values."""

    #: Short name, as in the provenance and in the key of what is kept: ``bias_field``.
    name: ClassVar[str]
    #: Raise it with any change of what the step computes.
    version: ClassVar[int]

    def parameters(self) -> Mapping[str, Any]:
        """Everything besides the scan that decides the result; JSON values."""
        ...

    def __call__(self, work: Work) -> Work:
        """Do the step. Raises a Defect when the scan cannot be used."""
        ...
