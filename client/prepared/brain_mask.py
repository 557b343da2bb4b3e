"""Where the brain is in a volume on the model grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform, distance_transform_edt

from shared_model.atlas.tissue import load_tissue_maps
from shared_model.grid import ModelGrid

_MARGIN_MM = 8.0
_CORE_MM = 12.0
# Of Rayleigh noise, one voxel in two thousand exceeds its median by four robust deviations.
_NOISE_DEVIATIONS = 4.0
# Below this part of the bright tissue is what interpolation smears over the brain's edge.
_SMEAR = 0.02
_BINS = 256

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BrainPrior:
    """The public MNI152 brain on a grid, from nilearn's template.

    Attributes:
        brain: ``(D, H, W)`` the template's brain.
        around: ``brain`` and 8 mm more: an aligned brain lies within.
        core: deeper than 12 mm in ``brain``: inside every aligned brain, ventricles included.
    """

    brain: Mask
    around: Mask
    core: Mask


@lru_cache(maxsize=4)
def brain_prior(grid: ModelGrid) -> BrainPrior:
    """The prior of a grid; half a second, then remembered. Raises SMR-E623."""
    maps = load_tissue_maps()
    offset = grid.affine[:3, 3] - maps.affine[:3, 3]
    brain = (
        affine_transform(
            (maps.t1 > 0).astype(np.float32),
            np.full(3, grid.spacing_mm),
            offset,
            output_shape=grid.shape,
            order=1,
        )
        > 0.5
    )
    outwards = distance_transform_edt(~brain, sampling=grid.spacing_mm)
    inwards = distance_transform_edt(brain, sampling=grid.spacing_mm)
    return BrainPrior(brain, outwards <= _MARGIN_MM, inwards > _CORE_MM)


@dataclass(frozen=True, eq=False)
class Brain:
    """The brain of one scan on the model grid.

    Attributes:
        mask: ``(D, H, W)`` bool: foreground near the MNI152 brain, and the core of that brain,
            whose ventricles may be as dark as the background.
        foreground_ml: foreground near the MNI152 brain, in millilitres.
        elsewhere: share of the foreground that lies further than 8 mm from the MNI152 brain.
    """

    mask: Mask
    foreground_ml: float
    elsewhere: float


def find_brain(volume: npt.NDArray[np.floating], grid: ModelGrid) -> Brain:
    """The voxels near the MNI152 brain that are brighter than the background.

    The background's level and noise are taken where no brain can be, so that exact zeros and Rician
    noise both work; the threshold is never above Otsu's, so that a skull, which lies there too,
    does not raise it.

    Args:
        volume: ``(D, H, W)`` on ``grid``, finite, background darkest.
        grid: the model grid.
    """
    prior = brain_prior(grid)
    inside, outside = volume[prior.around], volume[~prior.around]
    level = float(np.median(outside))
    spread = 1.4826 * float(np.median(np.abs(outside - level)))
    threshold = min(level + _NOISE_DEVIATIONS * spread, _otsu(inside))
    bright = float(np.percentile(inside, 95))
    foreground = volume > max(threshold, _SMEAR * bright)
    near = foreground & prior.around
    total, kept = int(foreground.sum()), int(near.sum())
    return Brain(
        mask=near | prior.core,
        foreground_ml=kept * grid.spacing_mm**3 / 1000,
        elsewhere=1 - kept / max(total, 1),
    )


def _otsu(values: npt.NDArray[np.floating]) -> float:
    """Otsu's threshold: the cut with the largest variance between the two sides."""
    counts, edges = np.histogram(values, _BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    means_below = sums[:-1] / np.maximum(below, 1)
    means_above = (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1:-1][np.argmax(below * above * (means_below - means_above) ** 2)])
