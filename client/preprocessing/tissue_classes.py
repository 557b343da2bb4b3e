"""Grey matter, white matter and fluid in a brain: a mixture of three normals with MNI priors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates

from client.preprocessing.image import Affine, Image, Mask
from client.preprocessing.template import mni_template
from shared_model.atlas.tissue import load_tissue_maps

_ITERATIONS = 40
_CONVERGED = 1e-5
# An affine cannot match gyri or wide ventricles: the prior is blurred and never excludes a tissue.
_PRIOR_BLUR_MM = 3.0
_FLOOR = 0.05
# Every so many brain voxels, at most this number, are used to fit; all are classified.
_FITTED = 200_000
_SMALLEST_SPREAD = 0.01
_DIM, _BRIGHT = 0.5, 99.5

Shares = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TissueClasses:
    """How likely each brain voxel is grey matter, white matter and fluid.

    Attributes:
        gm, wm, csf: ``(N,)`` float32 in the order of ``np.flatnonzero(mask)``; they sum to 1.
        means: fitted greys of the three, in parts of the brain's bright tissue.
    """

    gm: Shares
    wm: Shares
    csf: Shares
    means: tuple[float, float, float]

    @property
    def plausible(self) -> bool:
        """Whether the means are in T1's order: fluid darkest, white matter brightest."""
        gm, wm, csf = self.means
        return csf < gm < wm


def classify(image: Image, mask: Mask, to_mni: Affine) -> TissueClasses:
    """Expectation maximisation with spatial priors (Ashburner and Friston 1997), without a warp.

    ``p(k | x) ~ prior_k(x) N(grey(x); mean_k, spread_k)``. Partial volume shows as a share.

    Args:
        image: ``(I, J, K)`` bias-corrected greys.
        mask: ``(I, J, K)`` the brain.
        to_mni: ``(4, 4)`` scanner mm to MNI mm.
    """
    greys = image.voxels[mask]
    low, high = np.percentile(greys, (_DIM, _BRIGHT))
    greys = (np.clip(greys, low, high) - low) / np.float32(max(high - low, 1e-12))
    prior = _priors_at(mask, to_mni @ image.affine)
    every = max(1, greys.size // _FITTED)
    some, weight = greys[::every].astype(np.float64), prior[:, ::every].astype(np.float64)
    share: npt.NDArray[np.floating] = weight
    means, spreads = np.zeros(3), np.ones(3)
    for _ in range(_ITERATIONS):
        total = share.sum(axis=1) + 1e-12
        before, means = means, share @ some / total
        spreads = np.sqrt((share * (some - means[:, None]) ** 2).sum(axis=1) / total)
        spreads = np.maximum(spreads, _SMALLEST_SPREAD)
        share = _posterior(some, weight, means, spreads)
        if np.abs(means - before).max() < _CONVERGED:
            break
    gm, wm, csf = _posterior(greys, prior, means, spreads).astype(np.float32)
    return TissueClasses(gm, wm, csf, (float(means[0]), float(means[1]), float(means[2])))


def _posterior(
    greys: npt.NDArray[np.floating],
    prior: npt.NDArray[np.floating],
    means: npt.NDArray[np.float64],
    spreads: npt.NDArray[np.float64],
) -> npt.NDArray[np.floating]:
    """``(3, N)`` summing to 1."""
    m, s = means.astype(greys.dtype)[:, None], spreads.astype(greys.dtype)[:, None]
    density = prior * np.exp(-0.5 * ((greys - m) / s) ** 2) / s
    # Far from every mean all densities vanish: the prior decides there.
    total = density.sum(axis=0)
    out: npt.NDArray[np.floating] = np.where(
        total > 1e-20, density / np.maximum(total, 1e-20), prior
    )
    return out


@lru_cache(maxsize=1)
def _priors() -> tuple[Shares, ...]:
    """Grey matter, white matter and fluid ``(197, 233, 189)`` each, blurred."""
    maps, mask = load_tissue_maps(), mni_template().mask
    gm, wm = (m.astype(np.float32) / np.float32(255) for m in (maps.gm, maps.wm))
    csf = np.where(mask, np.clip(1 - gm - wm, 0, 1), np.float32(0))
    return tuple(gaussian_filter(t, _PRIOR_BLUR_MM) for t in (gm, wm, csf))


def _priors_at(mask: Mask, voxel_to_mni: Affine) -> Shares:
    """``(3, N)`` at the mask's voxels, each at least the floor, summing to 1."""
    where = np.stack(np.nonzero(mask)).astype(np.float32)
    matrix = (np.linalg.inv(mni_template().affine) @ voxel_to_mni).astype(np.float32)
    where = matrix[:3, :3] @ where + matrix[:3, 3:]
    found = np.stack([map_coordinates(p, where, order=1, prefilter=False) for p in _priors()])
    found += np.float32(_FLOOR)
    shares: Shares = found / found.sum(axis=0)
    return shares
