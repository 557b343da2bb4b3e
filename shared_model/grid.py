"""The voxel grid in MNI space that every volume is resampled to before the model sees it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

# The field of view is the same at every spacing: 176 x 208 x 176 mm around the MNI152 brain, with
# room for the residual pose error of a linear registration. Each side divides by 16 at 1 mm.
FIELD_OF_VIEW_MM = (176.0, 208.0, 176.0)
FIELD_OF_VIEW_CORNER_MM = (-88.0, -120.0, -82.0)


class ModelGrid(BaseModel):
    """A regular RAS+ grid over the MNI152 field of view.

    The array axes are (X, Y, Z) = left-right, posterior-anterior, inferior-superior, so that a
    model input ``(B, 1, D, H, W)`` has sagittal slices along D, coronal along H and axial along W.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    spacing_mm: float = Field(default=2.0, ge=1.0, le=4.0, description="isotropic voxel size in mm")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels per axis: (88, 104, 88) at 2 mm, (176, 208, 176) at 1 mm."""
        x, y, z = (round(side / self.spacing_mm) for side in FIELD_OF_VIEW_MM)
        return x, y, z

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """``(4, 4)`` voxel-to-MNI matrix in mm; voxel (0, 0, 0) has its centre half a voxel in."""
        affine = np.diag([self.spacing_mm] * 3 + [1.0])
        affine[:3, 3] = np.asarray(FIELD_OF_VIEW_CORNER_MM) + self.spacing_mm / 2
        return affine
