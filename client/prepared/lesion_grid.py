"""Lesion numbers from the voxels of a scan to the model grid, and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from client.prepared.resample import Affine, to_ras
from shared_model.grid import ModelGrid

Numbers = npt.NDArray[np.int16]


def lesions_to_grid(numbers: Numbers, affine: Affine, grid: ModelGrid) -> Numbers:
    """``(D, H, W)`` on the model grid, from ``(I, J, K)`` on the scan's voxels.

    Nearest neighbours along the same axes and matrix as the scan itself
    (:func:`client.prepared.resample.to_grid`). A lesion that is smaller than a voxel of the grid
    may not be found by any and is then not there.
    """
    volume, turned = to_ras(numbers.astype(np.float32), affine)
    return _nearest(volume, turned, grid.affine, grid.shape)


def lesions_to_scan(
    numbers: Numbers, grid: ModelGrid, affine: Affine, shape: tuple[int, int, int]
) -> Numbers:
    """``(I, J, K)`` on the scan's stored voxels, from ``(D, H, W)`` on the model grid."""
    return _nearest(numbers.astype(np.float32), grid.affine, affine, shape)


def _nearest(
    volume: npt.NDArray[np.float32], source: Affine, target: Affine, shape: tuple[int, ...]
) -> Numbers:
    import torch
    from monai.data import MetaTensor
    from monai.transforms import SpatialResample

    resample = SpatialResample(mode="nearest", padding_mode="zeros", align_corners=False)
    out = resample(
        MetaTensor(torch.from_numpy(volume)[None], affine=torch.from_numpy(source)),
        dst_affine=torch.from_numpy(target),
        spatial_size=shape,
    )
    numbers: Numbers = np.rint(out.numpy()[0]).astype(np.int16)
    return numbers
