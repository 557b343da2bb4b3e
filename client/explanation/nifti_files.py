"""Maps as NIfTI files in MNI152 space, for any viewer."""

from __future__ import annotations

import gzip
from io import BytesIO

import nibabel
import numpy as np
import numpy.typing as npt

from shared_model.grid import ModelGrid

_MNI152 = 4  # NIfTI's code for coordinates of the MNI152 template
_MM = 2


def encode(voxels: npt.NDArray[np.float32], grid: ModelGrid) -> bytes:
    """``(D, H, W)`` on the model grid as ``.nii.gz``, float32; the same voxels, the same bytes."""
    image = nibabel.Nifti1Image(np.asarray(voxels, dtype=np.float32), grid.affine)
    image.set_sform(grid.affine, code=_MNI152)
    image.set_qform(grid.affine, code=_MNI152)
    image.header.set_xyzt_units(_MM)
    # A gzip header holds the time unless it is told not to.
    return gzip.compress(BytesIO(image.to_bytes()).getvalue(), mtime=0)
