"""From the scan's own voxels to the model grid, in one interpolation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from client.archive.problems import Defect, Problem
from client.prepared.resample import to_grid
from client.preprocessing.image import Work
from shared_model.grid import ModelGrid
from shared_model.preparation import Preparation

# A voxel of the grid is brain when at least half of it is.
_HALF = 0.5


@dataclass(frozen=True)
class Resample:
    """Greys and brain on the model grid, through ``to_mni @ affine`` at once.

    The blur against aliasing is that of :func:`client.prepared.resample.to_grid`: along the stored
    axes, from their voxel size in MNI space to the grid's. The point spread that it aims at is
    isotropic, so it may be reached along any three perpendicular axes, also turned ones.

    Stripped, a voxel's grey is the mean over the brain in it: greys of the masked scan divided by
    the mask's share, both resampled alike. So neither does the skull bleed in nor is the brain's
    edge darkened; outside the brain it is exactly 0.

    Args:
        grid: the model grid.
        strip: False keeps the head.
    """

    grid: ModelGrid
    strip: bool = True

    name: ClassVar[str] = "resample"
    version: ClassVar[int] = 1

    @classmethod
    def of(cls, preparation: Preparation, grid: ModelGrid) -> Resample:
        """The step that a plan asks for."""
        return cls(grid, preparation.brain_extraction.strip)

    def parameters(self) -> Mapping[str, Any]:
        """The grid, and whether the head is kept."""
        return {
            "shape": list(self.grid.shape),
            "affine": self.grid.affine.tolist(),
            "strip": self.strip,
        }

    def __call__(self, work: Work) -> Work:
        """Fill in ``on_grid`` and ``brain_on_grid``; finds how much brain lies outside the grid.

        Raises a Defect, SMR-E243, when no brain is on the grid.
        """
        image, brain = work.image, work.brain
        if brain is None or work.to_mni is None:
            raise ValueError("resampling needs the brain mask and the registration")
        affine = work.to_mni @ image.affine
        share = to_grid(brain.astype(np.float32), affine, self.grid)
        inside = share >= _HALF
        if not inside.any():
            raise Defect(Problem.NO_BRAIN, "no brain on the model grid")
        if self.strip:
            greys = to_grid(np.where(brain, image.voxels, np.float32(0)), affine, self.grid)
            on_grid = np.where(inside, greys / np.maximum(share, _HALF), np.float32(0))
        else:
            on_grid = to_grid(image.voxels, affine, self.grid)
        whole = float(brain.sum()) * abs(np.linalg.det(affine[:3, :3]))
        kept = float(share.sum(dtype=np.float64)) * self.grid.spacing_mm**3
        found = {
            "brain_outside_grid": round(float(max(0.0, 1 - kept / whole)), 4),
            "brain_on_grid_ml": round(float(inside.sum()) * self.grid.spacing_mm**3 / 1000, 1),
        }
        return replace(
            work,
            on_grid=on_grid.astype(np.float32, copy=False),
            brain_on_grid=inside,
            findings={**work.findings, **found},
        )
