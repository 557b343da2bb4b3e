"""NIfTI images: what the header must say, and the voxels."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from client.archive.problems import Defect, Problem

#: What reading a damaged image raises.
UNREADABLE = (OSError, EOFError, ValueError, zlib.error, ImageFileError, HeaderDataError)


@dataclass(frozen=True, eq=False)
class RawVolume:
    """The voxels of one image, as stored.

    Attributes:
        voxels: ``(I, J, K)`` float32 after the header's slope and intercept; finite.
        affine: ``(4, 4)`` stored voxel to scanner or MNI mm.
        file_sha256: of the file's bytes.
    """

    voxels: npt.NDArray[np.float32]
    affine: npt.NDArray[np.float64]
    file_sha256: str


def check_header(path: Path) -> None:
    """Check what can be known without reading voxels: type, dimensions, position in space.

    Raises a Defect (SMR-E212, E213, E214).
    """
    try:
        image = nibabel.load(str(path))
        _check(path, image)
        if path.suffix == ".nii":
            needed = int(image.dataobj.offset) + int(
                np.prod(image.shape) * image.get_data_dtype().itemsize
            )
            if path.stat().st_size < needed:
                raise Defect(
                    Problem.UNREADABLE_IMAGE,
                    f"{path}: cut short, {path.stat().st_size} of {needed} bytes",
                )
    except UNREADABLE as error:
        raise _unreadable(path, error) from None


def read_volume(path: Path) -> RawVolume:
    """Read a whole image, gzip's checksum included.

    Raises a Defect: SMR-E212 to E214 as :func:`check_header`, SMR-E215 for voxels that are not
    finite or all the same.
    """
    try:
        kind = type(nibabel.load(str(path)))
        content = path.read_bytes()
        # nibabel would stop before the checksum at the end of the file.
        data = gzip.decompress(content) if path.suffix == ".gz" else content
        image = kind.from_bytes(data)
        _check(path, image)
        voxels = np.asarray(image.dataobj, dtype=np.float32)
    except UNREADABLE as error:
        raise _unreadable(path, error) from None
    voxels = voxels.reshape(voxels.shape[:3])
    low, high = float(voxels.min()), float(voxels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise Defect(Problem.BAD_VOXELS, f"{path}: voxels that are not finite")
    if low == high:
        raise Defect(Problem.BAD_VOXELS, f"{path}: {low:g} everywhere")
    affine = np.asarray(image.affine, dtype=np.float64)
    return RawVolume(voxels, affine, hashlib.sha256(content).hexdigest())


def _check(path: Path, image: nibabel.spatialimages.SpatialImage) -> None:
    if not isinstance(image, nibabel.Nifti1Pair):
        raise Defect(Problem.UNREADABLE_IMAGE, f"{path}: a {type(image).__name__}, not NIfTI")
    if image.get_data_dtype().kind not in "iuf":
        raise Defect(Problem.UNREADABLE_IMAGE, f"{path}: voxels of {image.get_data_dtype()}")
    shape = image.shape
    if len(shape) < 3 or min(shape[:3]) < 2 or any(side != 1 for side in shape[3:]):
        raise Defect(Problem.NOT_3D, f"{path}: {' x '.join(map(str, shape))} voxels")
    affine = np.asarray(image.affine, dtype=np.float64)
    codes = [int(image.header[name]) for name in ("sform_code", "qform_code")]
    if not any(code > 0 for code in codes):
        raise Defect(Problem.BAD_AFFINE, f"{path}: neither sform nor qform")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise Defect(Problem.BAD_AFFINE, f"{path}: the matrix {affine[:3].round(4).tolist()}")


def _unreadable(path: Path, error: BaseException) -> Defect:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Defect(Problem.UNREADABLE_IMAGE, f"{path}: {reason}")
