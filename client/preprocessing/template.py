"""The MNI152 brain that every scan is registered to, from nilearn's packaged files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from client.preprocessing.image import Affine, Mask, Volume
from shared_model.atlas.tissue import load_tissue_maps, tissue_files_sha256

#: Volume of the template's brain mask, sulcal fluid included: the mask of ICBM152 2009a, 1 mm.
TEMPLATE_BRAIN_MM3 = 1_886_539.0


@dataclass(frozen=True, eq=False)
class Template:
    """The ICBM152 2009a symmetric brain at 1 mm, RAS+ (Fonov et al. 2011).

    Attributes:
        brain: ``(197, 233, 189)`` greys in parts of the bright tissue, 0 outside the brain.
        mask: ``(197, 233, 189)`` the brain with all fluid inside its hull.
        affine: ``(4, 4)`` voxel to MNI mm.
        sha256: digest of the files' voxels.
    """

    brain: Volume
    mask: Mask
    affine: Affine
    sha256: str


@lru_cache(maxsize=1)
def mni_template() -> Template:
    """The template; half a second, then remembered. Raises SMR-E623."""
    maps = load_tissue_maps()
    mask = maps.t1 > 0
    bright = float(np.percentile(maps.t1[mask], 98))
    brain = maps.t1.astype(np.float32) / np.float32(bright)
    for array in (brain, mask):
        array.setflags(write=False)
    return Template(brain, mask, maps.affine, maps.sha256)


def template_sha256() -> str:
    """Which template it is, for provenance and keys: a digest of its files. Raises SMR-E623."""
    return tissue_files_sha256()
