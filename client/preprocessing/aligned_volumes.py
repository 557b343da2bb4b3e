"""Region volumes of a scan that came skull-stripped and aligned to MNI152."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from client.preprocessing.image import Affine, Image, Work
from client.preprocessing.region_volumes import region_volumes
from shared_model.atlas.atlas import Atlas
from shared_model.volumes.reference import SMALLEST_ML

Floats = npt.NDArray[np.float64]

_FLUID = "ventricle"


def aligned_volumes(
    voxels: npt.NDArray[np.float32], affine: Affine, atlas: Atlas
) -> tuple[Floats, float]:
    """Volumes ``(R,)`` in ml and the brain's in ml.

    The same tissue classification and atlas as ``smrfed-site prepare`` reports
    (:func:`client.preprocessing.region_volumes.region_volumes`), without a warp: brain tissue
    inside the region, and fluid inside the ventricles. Scanner effects are in it.
    """
    image = Image(voxels, affine)
    found = region_volumes(Work(image, brain=voxels > 0, to_mni=np.eye(4)), atlas)
    ml = tissue_ml(atlas, found.gm_mm3, found.wm_mm3, found.csf_mm3)
    return ml, found.brain_mask_mm3 / 1000


def recorded_volumes(
    regions: Mapping[str, Mapping[str, float]], head: Mapping[str, float], atlas: Atlas
) -> tuple[Floats, float]:
    """The same from what ``smrfed-site prepare`` recorded of a native scan.

    Raises KeyError where a region of the atlas is not in the record.
    """
    gm, wm, csf = (
        np.array([regions[name][kind] for name in atlas.names])
        for kind in ("gm_mm3", "wm_mm3", "csf_mm3")
    )
    return tissue_ml(atlas, gm, wm, csf), head["brain_mask_mm3"] / 1000


def tissue_ml(atlas: Atlas, gm_mm3: Floats, wm_mm3: Floats, csf_mm3: Floats) -> Floats:
    """``(R,)`` ml of tissue in each region, of fluid in the ventricles."""
    fluid = np.array([_FLUID in name for name in atlas.names])
    ml: Floats = np.where(fluid, csf_mm3, gm_mm3 + wm_mm3) / 1000
    return np.maximum(ml, SMALLEST_ML)
