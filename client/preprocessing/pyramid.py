"""A brain at several resolutions, and its values at any points in space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from client.preprocessing.image import Affine, Mask, Volume

_SIGMA_PER_FWHM = 1 / 2.3548200450309493
# Greys above this part of the bright tissue are vessels or fat, and would weigh too much.
_BRIGHTEST = 1.5


@dataclass(frozen=True, eq=False)
class Level:
    """A brain on voxels of about one resolution.

    Attributes:
        voxels: ``(1, 1, I, J, K)`` float32; 0 outside the brain.
        from_mm: ``(4, 4)`` float64, mm to the coordinates of ``grid_sample`` (x, y, z order of K,
            J, I; -1 and 1 are the centres of the first and last voxel).
        spacing_mm: the resolution.
    """

    voxels: torch.Tensor
    from_mm: torch.Tensor
    spacing_mm: float

    def at(self, points: torch.Tensor, to_mm: torch.Tensor) -> torch.Tensor:
        """Values ``(N,)`` by trilinear interpolation; 0 outside.

        Args:
            points: ``(N, 3)`` float32 in some space, mm.
            to_mm: ``(4, 4)`` float64, from that space to this brain's mm; may carry a gradient.
        """
        matrix = (self.from_mm @ to_mm).to(points.dtype)
        where = torch.addmm(matrix[:3, 3], points, matrix[:3, :3].T)
        sampled = torch.nn.functional.grid_sample(
            self.voxels, where[None, None, None], padding_mode="zeros", align_corners=True
        )
        return sampled.reshape(-1)


def brain_only(voxels: Volume, mask: Mask) -> Volume:
    """Greys in parts of the brain's bright tissue, limited above, 0 outside the mask.

    Raises ValueError for a brain without signal.
    """
    bright = float(np.percentile(voxels[mask], 98))
    if not bright > 0:
        raise ValueError("the brain holds no signal")
    brain: Volume = np.where(mask, np.clip(voxels / np.float32(bright), 0, _BRIGHTEST), 0)
    return brain.astype(np.float32, copy=False)


def level(brain: Volume, affine: Affine, spacing_mm: float) -> Level:
    """Blur a brain to a resolution and drop the voxels that this makes superfluous.

    Gaussian per stored axis, variance ``(level^2 - voxel^2) / (8 ln 2)``, as when a scan is
    resampled to the model grid.
    """
    low, high = _box(brain)
    # Room for the blur, so that the brain fades to zero inside the array.
    margin = np.ceil(2 * spacing_mm / np.linalg.norm(affine[:3, :3], axis=0)).astype(int) + 1
    volume = brain[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    volume = np.pad(volume, [(m, m) for m in margin])
    corner = affine @ np.append(low - margin, 1.0)
    keep = []
    for axis, spacing in enumerate(np.linalg.norm(affine[:3, :3], axis=0)):
        if spacing < spacing_mm:
            sigma = np.sqrt((spacing_mm / spacing) ** 2 - 1) * _SIGMA_PER_FWHM
            volume = gaussian_filter1d(volume, sigma, axis=axis, mode="constant", truncate=3.0)
        keep.append(max(1, int(spacing_mm / spacing + 1e-6)))
        volume = np.take(volume, np.arange(0, volume.shape[axis], keep[-1]), axis=axis)
    to_mm = np.eye(4)
    to_mm[:3, :3] = affine[:3, :3] * keep
    to_mm[:3, 3] = corner[:3]
    return Level(_tensor(volume), torch.from_numpy(_normalised(volume.shape, to_mm)), spacing_mm)


def _box(brain: Volume) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last index per axis where the brain is not zero."""
    low, high = np.zeros(3, dtype=int), np.array(brain.shape)
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        present = np.flatnonzero((brain != 0).any(axis=others))
        low[axis], high[axis] = present[0], present[-1] + 1
    return low, high


def _tensor(volume: Volume) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None, None]


def _normalised(shape: tuple[int, ...], to_mm: Affine) -> Affine:
    """``(4, 4)`` mm to ``grid_sample``'s coordinates, whose order is that of the axes reversed."""
    scale = np.eye(4)
    for row, axis in enumerate((2, 1, 0)):
        scale[row, :3] = 0
        scale[row, axis] = 2 / (shape[axis] - 1)
        scale[row, 3] = -1
    matrix: Affine = scale @ np.linalg.inv(to_mm)
    return matrix
