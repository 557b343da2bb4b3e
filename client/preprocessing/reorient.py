"""Axes in RAS+ order, greys that start at zero, and a scan that is fine and large enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import nibabel
import numpy as np

from client.archive.problems import Defect, Problem
from client.prepared.resample import to_ras
from client.preprocessing.image import Affine, Image, Volume, Work
from shared_model.preparation import Preparation

#: A voxel longer than this is a slice package: a hippocampus spans only a few of them.
COARSEST_MM = 4.0
#: A field of view below this along any axis cannot hold an adult's or a child's brain.
SMALLEST_FIELD_MM = 100.0
# A most frequent grey of at least this share of the voxels is a constant background.
_CONSTANT = 0.3


@dataclass(frozen=True)
class Reorient:
    """Turn and flip the axes to the RAS+ order nearest to the header's; nothing is interpolated.

    An oblique header stays oblique: what the axes cannot take up remains in the affine. Greys below
    zero (a background of -4, an offset, the ringing of a resampled image) are shifted so that the
    background is zero, because bias field and resampling take zero for "no signal".

    Raises a Defect, SMR-E245, for voxels longer than 4 mm or a field of view below 100 mm.
    """

    name: ClassVar[str] = "reorient"
    version: ClassVar[int] = 1

    @classmethod
    def of(cls, preparation: Preparation) -> Reorient:
        """The step that a plan asks for; nothing of it can be chosen."""
        return cls()

    def parameters(self) -> Mapping[str, Any]:
        """The limits."""
        return {"coarsest_mm": COARSEST_MM, "smallest_field_mm": SMALLEST_FIELD_MM}

    def __call__(self, work: Work) -> Work:
        """``(I, J, K)`` in any order to RAS+. Raises a Defect, SMR-E245."""
        stored = work.image
        codes = "".join(nibabel.aff2axcodes(stored.affine))
        voxels, affine = to_ras(stored.voxels, stored.affine)
        image = Image(from_zero(voxels), affine)
        field_mm = np.multiply(image.voxels.shape, image.spacing_mm)
        if max(image.spacing_mm) > COARSEST_MM or min(field_mm) < SMALLEST_FIELD_MM:
            spacing = " x ".join(f"{s:.2f}" for s in image.spacing_mm)
            field = " x ".join(f"{s:.0f}" for s in field_mm)
            raise Defect(Problem.TOO_COARSE, f"voxels of {spacing} mm, a field of {field} mm")
        found = {
            "stored_axes": codes,
            "oblique_degrees": round(oblique_degrees(affine), 2),
            "spacing_mm": [round(s, 4) for s in image.spacing_mm],
            "field_of_view_mm": [round(float(s), 1) for s in field_mm],
        }
        return replace(work, image=image, findings={**work.findings, **found})


def from_zero(voxels: Volume) -> Volume:
    """The greys as they are where none is negative; else with the background at zero."""
    if float(voxels.min()) >= 0:
        return voxels
    values, counts = np.unique(voxels[::3, ::3, ::3], return_counts=True)
    most = int(counts.argmax())
    if counts[most] > _CONSTANT * counts.sum():
        level = values[most]
    else:
        level = np.float32(np.percentile(voxels[::3, ::3, ::3], 0.1))
    shifted: Volume = np.maximum(voxels - level, 0, dtype=np.float32)
    return shifted


def oblique_degrees(affine: Affine) -> float:
    """Largest angle between a stored axis and the scanner axis nearest to it."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.degrees(np.arccos(np.clip(np.abs(axes).max(axis=0), -1, 1))).max())
