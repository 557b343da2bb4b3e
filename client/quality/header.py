"""What the original file says about itself, before any step has touched it."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.affines import obliquity
from pydantic import BaseModel, ConfigDict, Field

# Enough voxels to tell a label map (tens of values) from greys (hundreds).
_SAMPLED = 1_000_000


class HeaderFacts(BaseModel):
    """Geometry and storage of a scan as the archive holds it; nothing that names a person."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    orientation: str = Field(description="stored axes towards, e.g. LAS: left, anterior, superior")
    spacing_mm: tuple[float, float, float] = Field(description="voxel size per stored axis, mm")
    shape: tuple[int, int, int] = Field(description="voxels per stored axis")
    oblique_degrees: float = Field(
        description="largest angle between a stored axis and the nearest scanner axis, degrees"
    )
    dtype: str = Field(description="type of the stored voxels, e.g. int16")
    scaled: bool = Field(description="the header holds a slope or intercept other than 1 and 0")
    grey_levels: int = Field(
        ge=0, description="different values among up to a million voxels; a label map has few"
    )
    handedness_disagrees: bool = Field(
        description="sform and qform are both set and one mirrors the other: left and right are "
        "not known"
    )

    @property
    def field_of_view_mm(self) -> tuple[float, float, float]:
        """Extent per stored axis, mm."""
        x, y, z = (n * mm for n, mm in zip(self.shape, self.spacing_mm, strict=True))
        return x, y, z


def read_header(path: Path, voxels: npt.NDArray[np.generic]) -> HeaderFacts:
    """Facts of a NIfTI file that :func:`client.archive.nifti.read_volume` has accepted.

    Args:
        path: the file as it lies in the archive.
        voxels: ``(I, J, K)`` its voxels, in any axis order.
    """
    image = nibabel.load(str(path))
    header = image.header
    affine = np.asarray(image.affine, dtype=np.float64)
    x, y, z = (float(round(mm, 4)) for mm in np.linalg.norm(affine[:3, :3], axis=0))
    i, j, k = (int(side) for side in image.shape[:3])
    # On the header, nibabel clears them when it opens a file.
    slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    return HeaderFacts(
        orientation="".join(str(code) for code in nibabel.aff2axcodes(affine)),
        spacing_mm=(x, y, z),
        shape=(i, j, k),
        oblique_degrees=round(float(np.degrees(obliquity(affine).max())), 2),
        dtype=str(image.get_data_dtype()),
        scaled=(slope, intercept) != (1.0, 0.0),
        grey_levels=count_grey_levels(voxels),
        handedness_disagrees=_handedness_disagrees(header),
    )


def count_grey_levels(voxels: npt.NDArray[np.generic]) -> int:
    """Different values among evenly spaced voxels, a million at most."""
    flat = voxels.ravel(order="K")
    return int(np.unique(flat[:: max(1, flat.size // _SAMPLED)]).size)


def _handedness_disagrees(header: nibabel.Nifti1Header) -> bool:
    if int(header["sform_code"]) <= 0 or int(header["qform_code"]) <= 0:
        return False
    sform, qform = (np.linalg.det(m[:3, :3]) for m in (header.get_sform(), header.get_qform()))
    return bool(sform * qform < 0)
