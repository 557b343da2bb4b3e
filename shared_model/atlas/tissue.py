"""The MNI152 tissue maps that nilearn packages, read from its own files: no download."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

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
    for kind, path in _paths().items():
        try:
            image = nibabel.load(str(path))
        except (OSError, ImageFileError) as error:
            raise _absent(path, error) from error
        images[kind] = np.asanyarray(image.dataobj).astype(np.uint8)
        affine = np.asarray(image.affine, dtype=np.float64)
        digest.update(images[kind].tobytes())
    for voxels in images.values():
        voxels.flags.writeable = False
    return TissueMaps(images["t1"], images["gm"], images["wm"], affine, digest.hexdigest())


@cache
def tissue_files_sha256() -> str:
    """Digest of the three files' bytes: says which template it is without reading a voxel.

    Raises:
        SmrfedError: SMR-E623 as :func:`load_tissue_maps`.
    """
    digest = hashlib.sha256()
    for path in _paths().values():
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            raise _absent(path, error) from error
    return digest.hexdigest()


def _paths() -> dict[str, Path]:
    """The files by kind; nilearn itself, which takes a second to import, is not."""
    spec = find_spec("nilearn")
    places = spec.submodule_search_locations if spec else None
    folder = Path(places[0] if places else "nilearn") / "datasets" / "data"
    return {k: folder / f"mni_icbm152_{k}_tal_nlin_sym_09a_converted.nii.gz" for k in _KINDS}


def _absent(path: Path, error: Exception) -> SmrfedError:
    return SmrfedError(
        "SMR-E623",
        "The installed nilearn has no MNI152 template of the expected name.",
        found=str(error),
        expected=path.name,
        remedy="Install a nilearn between 0.11 and 0.13 (pip install 'nilearn>=0.11').",
    )
