"""Where the brain lies in its image, and what the registration did with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from client.prepared.brain_mask import brain_prior
from client.preprocessing.image import Affine, Image, Mask
from shared_model.grid import ModelGrid


@dataclass(frozen=True)
class Edge:
    """Brain on the outermost voxels of an image: cut off, or never scanned.

    Attributes:
        faces: how many of the image's six faces it touches.
        cm2: area of the brain on them.
    """

    faces: int
    cm2: float


def brain_at_edge(image: Image, brain: Mask) -> Edge:
    """Look at the six faces of ``(I, J, K)``."""
    x, y, z = image.spacing_mm
    faces, area = 0, 0.0
    for axis, face_mm2 in enumerate((y * z, x * z, x * y)):
        for index in (0, -1):
            touching = int(np.count_nonzero(np.take(brain, index, axis=axis)))
            faces += touching > 0
            area += touching * face_mm2 / 100
    return Edge(faces, round(area, 2))


@dataclass(frozen=True)
class Placement:
    """What an affine map does to a brain.

    Attributes:
        determinant: volume in MNI space over volume in the scanner; below 0 it mirrors.
        stretch: largest over smallest scale along any direction.
        rotation_degrees: angle of the rotation in the map, whatever its axis.
    """

    determinant: float
    stretch: float
    rotation_degrees: float


def placement(to_mni: Affine) -> Placement:
    """Polar decomposition of the linear part of ``(4, 4)`` scanner mm to MNI mm."""
    linear = to_mni[:3, :3]
    left, scales, right = np.linalg.svd(linear)
    rotation = left @ right
    determinant = float(np.linalg.det(linear))
    # A mirror image has no rotation angle; that of its negative is as near as it gets.
    turned = rotation if determinant > 0 else -rotation
    angle = np.degrees(np.arccos(np.clip((np.trace(turned) - 1) / 2, -1, 1)))
    stretch = float(scales[0] / scales[-1]) if scales[-1] > 0 else float("inf")
    return Placement(determinant, stretch, float(angle))


def centre_shift_mm(brain_on_grid: Mask, grid: ModelGrid) -> float:
    """Distance between the centres of a brain on the grid and of the template's, mm.

    Args:
        brain_on_grid: ``(D, H, W)``, not empty.
        grid: its grid.
    """
    ours, theirs = (
        np.array([np.mean(index) for index in np.nonzero(mask)])
        for mask in (brain_on_grid, brain_prior(grid).brain)
    )
    return float(np.linalg.norm(ours - theirs) * grid.spacing_mm)


def lost_share(brain_ml: float, to_mni: Affine, brain_on_grid: Mask, grid: ModelGrid) -> float:
    """Share of the brain's volume that the model grid's field of view cuts off; 0 at best."""
    mapped_ml = brain_ml * abs(float(np.linalg.det(to_mni[:3, :3])))
    kept_ml = int(brain_on_grid.sum()) * grid.spacing_mm**3 / 1000
    return max(0.0, 1 - kept_ml / mapped_ml) if mapped_ml > 0 else 1.0
