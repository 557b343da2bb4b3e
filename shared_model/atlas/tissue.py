"""The MNI152 tissue maps that nilearn packages, read from its own files: no download."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError

from shared_model.errors import SmrfedError

_KINDS = ("t1", "gm", "wm")


@dataclass(frozen=True, eq=False)
class TissueMaps:
    """The ICBM152 2009a symmetric template at 1 mm, skull-stripped, RAS+.

    Attributes:
        t1, gm, wm: ``(197, 233, 189)`` uint8; T1 greys, and probabilities times 255.
        affine: ``(4, 4)`` voxel-to-MNI matrix, mm.
        sha256: digest of the three files' voxels.
    """

    t1: npt.NDArray[np.uint8]
    gm: npt.NDArray[np.uint8]
    wm: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]
    sha256: str


@cache
def load_tissue_maps() -> TissueMaps:
    """Read the template from the installed nilearn: half a second, then remembered (26 MB).

    The arrays are read-only.

    Raises:
        SmrfedError: SMR-E623 where the installed nilearn does not hold the three files.
    """
    digest = hashlib.sha256()
    images: dict[str, npt.NDArray[np.uint8]] = {}
    affine = np.eye(4)
    folder = files("nilearn") / "datasets" / "data"
    for kind in _KINDS:
        path = folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
        try:
            image = nibabel.load(str(path))
        except (OSError, ImageFileError) as error:
            raise SmrfedError(
                "SMR-E623",
                "The installed nilearn has no MNI152 template of the expected name.",
                found=str(error),
                expected=path.name,
                remedy="Install a nilearn between 0.11 and 0.13 (pip install 'nilearn>=0.11').",
            ) from error
        images[kind] = np.asanyarray(image.dataobj).astype(np.uint8)
        affine = np.asarray(image.affine, dtype=np.float64)
        digest.update(images[kind].tobytes())
    for voxels in images.values():
        voxels.flags.writeable = False
    return TissueMaps(images["t1"], images["gm"], images["wm"], affine, digest.hexdigest())
