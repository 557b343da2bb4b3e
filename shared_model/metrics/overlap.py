"""How well two lesion masks of one scan agree: Dice, surface distance, volume.

What two empty masks do not determine is NaN. A prediction on a scan without a lesion, or none on
one with, has Dice 0 and an infinite distance: both are failures, not missing values.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, distance_transform_edt

Mask = npt.NDArray[np.bool_]


def dice(predicted: Mask, truth: Mask) -> float:
    """``2 |P n T| / (|P| + |T|)`` of masks ``(D, H, W)``."""
    total = int(predicted.sum()) + int(truth.sum())
    return float("nan") if total == 0 else 2 * int((predicted & truth).sum()) / total


def hausdorff_95_mm(predicted: Mask, truth: Mask, spacing_mm: float) -> float:
    """95th percentile of surface distances in mm, the larger of the two directions.

    Surfaces are the voxels of a mask with a face neighbour outside it (Taha and Hanbury 2015).
    """
    if not predicted.any() and not truth.any():
        return float("nan")
    if not predicted.any() or not truth.any():
        return float("inf")
    box = _box(predicted | truth)
    ends = []
    surfaces = [_surface(predicted[box]), _surface(truth[box])]
    for one, other in (surfaces, surfaces[::-1]):
        distance = distance_transform_edt(~other, sampling=spacing_mm)
        ends.append(float(np.percentile(distance[one], 95)))
    return max(ends)


def volume_error_ml(predicted: Mask, truth: Mask, spacing_mm: float) -> float:
    """Predicted minus true volume, ml; 0 for two empty masks."""
    return (int(predicted.sum()) - int(truth.sum())) * spacing_mm**3 / 1000


def _surface(mask: Mask) -> Mask:
    inner: Mask = binary_erosion(mask)
    return mask & ~inner


def _box(mask: Mask) -> tuple[slice, ...]:
    """Around a mask, with a voxel of room where the volume has it."""
    out = []
    for axis in range(mask.ndim):
        filled = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        out.append(slice(max(int(filled[0]) - 1, 0), int(filled[-1]) + 2))
    return tuple(out)
