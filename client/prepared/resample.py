"""From the stored axes and spacing of a scan to the model grid."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from shared_model.grid import ModelGrid

_SIGMA_PER_FWHM = 1 / 2.3548200450309493
# MONAI takes seconds to import, and what only looks results up does not need it.
_AXES = (("L", "R"), ("P", "A"), ("I", "S"))

Volume = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]


def to_grid(voxels: Volume, affine: Affine, grid: ModelGrid) -> Volume:
    """Resample a scan to the model grid, linearly, as its affine says; 0 outside the scan.

    Where the grid is coarser than the scan, the scan is blurred first with a Gaussian that brings
    the scan's point spread to the grid's: variance ``(s_grid^2 - s_scan^2) / (8 ln 2)`` per axis
    (Cardoso et al. 2015, scale factor point spread function matching). Without it fine structure
    would alias, differently at every hospital.

    Args:
        voxels: ``(I, J, K)`` in any orientation.
        affine: ``(4, 4)`` stored voxel to MNI mm.
        grid: the model grid.

    Returns:
        ``(D, H, W)`` float32, RAS+.
    """
    import torch
    from monai.data import MetaTensor
    from monai.transforms import SpatialResample

    volume, turned = to_ras(voxels, affine)
    for axis, spacing in enumerate(np.linalg.norm(turned[:3, :3], axis=0)):
        if spacing < grid.spacing_mm:
            fwhm = np.sqrt((grid.spacing_mm / spacing) ** 2 - 1)
            volume = gaussian_filter1d(
                volume, fwhm * _SIGMA_PER_FWHM, axis=axis, mode="constant", truncate=3.0
            )
    resample = SpatialResample(mode="bilinear", padding_mode="zeros", align_corners=False)
    out = resample(
        MetaTensor(torch.from_numpy(volume)[None], affine=torch.from_numpy(turned)),
        dst_affine=torch.from_numpy(grid.affine),
        spatial_size=grid.shape,
    )
    result: Volume = out.numpy()[0].astype(np.float32, copy=False)
    return result


def to_ras(voxels: Volume, affine: Affine) -> tuple[Volume, Affine]:
    """Turn and flip axes to the RAS+ order nearest to the affine; values are kept."""
    import torch
    from monai.data import MetaTensor
    from monai.transforms import Orientation

    stored = MetaTensor(torch.from_numpy(voxels)[None], affine=torch.from_numpy(affine))
    turned = Orientation(axcodes="RAS", labels=_AXES)(stored)
    volume: Volume = np.ascontiguousarray(turned.numpy()[0])
    return volume, turned.affine.numpy()


def voxels_sha256(voxels: Volume, affine: Affine) -> str:
    """Digest of an image's shape and voxels in RAS+, however the file stores or compresses them."""
    volume, _ = to_ras(voxels, affine)
    digest = hashlib.sha256(repr(volume.shape).encode())
    digest.update(volume.data)
    return digest.hexdigest()
