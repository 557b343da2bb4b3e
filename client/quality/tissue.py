"""A quick split of a registered brain into fluid, grey and white matter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates

from client.preprocessing.image import Affine, Image, Mask
from shared_model.atlas.tissue import load_tissue_maps

# Voxels that are looked at: enough for means and deviations to a fraction of a percent.
_SAMPLED = 150_000
_ITERATIONS = 60
_TOLERANCE = 1e-6
# The priors are blurred by what an affine registration leaves between two brains.
_BLUR_MM = 4.0
# No tissue is impossible anywhere: a prior of this much is left to each.
_FLOOR = 0.02
# A tissue with less of the brain than this was not found.
_LEAST_SHARE = 0.02

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tissue:
    """Mean and standard deviation of a tissue's greys, and its share of the brain."""

    mean: float
    deviation: float
    share: float


@dataclass(frozen=True)
class Tissues:
    """Which tissue is which comes from where it lies, so a T2w image has white below grey."""

    fluid: Tissue
    grey: Tissue
    white: Tissue


def split_tissues(image: Image, brain: Mask, to_mni: Affine) -> Tissues | None:
    """Three Gaussians with the MNI152 tissue maps as priors (Ashburner and Friston 2005).

    Expectation maximisation without their bias field and warps. Deviations include partial volume
    and true variation, as in MRIQC (Esteban et al. 2017). Deterministic.

    Args:
        image: ``(I, J, K)``, best after bias-field correction.
        brain: ``(I, J, K)`` its brain, not empty.
        to_mni: ``(4, 4)`` scanner mm to MNI mm.

    Returns:
        None where a tissue is missing: the scan is no registered brain, or has no contrast.
    """
    chosen = np.flatnonzero(brain)
    chosen = chosen[:: max(1, chosen.size // _SAMPLED)]
    greys = image.voxels.reshape(-1)[chosen].astype(np.float64)
    low, high = np.quantile(greys, (0.001, 0.999))
    if not high > low:
        return None
    greys = (np.clip(greys, low, high) - low) / (high - low)
    index = np.stack(np.unravel_index(chosen, brain.shape)).astype(np.float64)
    voxel_to_mni = to_mni @ image.affine
    priors = _priors_at(voxel_to_mni[:3, :3] @ index + voxel_to_mni[:3, 3:])
    fitted = _fit(greys, priors)
    if fitted is None:
        return None
    fluid, grey, white = (
        Tissue(float(low + mean * (high - low)), float(spread * (high - low)), float(share))
        for mean, spread, share in zip(*fitted, strict=True)
    )
    return Tissues(fluid, grey, white)


def _fit(greys: Floats, priors: Floats) -> tuple[Floats, Floats, Floats] | None:
    """Means, deviations and shares ``(3,)`` of greys ``(N,)`` under priors ``(3, N)``."""
    posterior = priors / priors.sum(0)
    likelihood = -np.inf
    for _ in range(_ITERATIONS):
        mass = posterior.sum(1)
        if mass.min() < _LEAST_SHARE * greys.size:
            return None
        means = posterior @ greys / mass
        spread = np.sqrt((posterior * (greys - means[:, None]) ** 2).sum(1) / mass)
        spread = np.maximum(spread, 1e-3)
        # The brain's own amounts of tissue scale the priors, as an atrophied brain needs.
        weights = mass / (priors / (mass @ priors / greys.size)).sum(1)
        weights = weights / weights.sum()
        density = np.exp(-0.5 * ((greys - means[:, None]) / spread[:, None]) ** 2)
        joint = weights[:, None] * priors * density / spread[:, None]
        total = joint.sum(0) + 1e-300
        posterior = joint / total
        before, likelihood = likelihood, float(np.log(total).mean())
        if abs(likelihood - before) < _TOLERANCE:
            break
    return means, spread, posterior.mean(1)


def _priors_at(mni: Floats) -> Floats:
    """``(3, N)`` fluid, grey and white at points ``(3, N)`` in MNI mm."""
    maps, affine = _blurred_maps()
    index = np.linalg.solve(affine[:3, :3], mni - affine[:3, 3:])
    grey, white = (map_coordinates(m, index, order=1, mode="nearest") for m in maps)
    fluid = np.maximum(1 - grey - white, 0)
    out: Floats = np.stack([fluid, grey, white]).astype(np.float64) + _FLOOR
    return out


@lru_cache(maxsize=1)
def _blurred_maps() -> tuple[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]], Affine]:
    """Grey and white matter of MNI152 on every second voxel, blurred, 0 to 1; and the affine."""
    maps = load_tissue_maps()
    mm = float(np.linalg.norm(maps.affine[:3, 0]))
    grey, white = (
        gaussian_filter(m.astype(np.float32) / 255, _BLUR_MM / mm)[::2, ::2, ::2]
        for m in (maps.gm, maps.wm)
    )
    affine = maps.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    return (grey, white), affine
