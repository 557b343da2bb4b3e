"""How alike two relevance maps of one scan are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects, gaussian_filter
from scipy.stats import spearmanr

from shared_model.explanation.relevance import Floats, Map, Mask

_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2


@dataclass(frozen=True)
class Similarity:
    """Spearman's correlation over the brain's voxels, and mean structural similarity there."""

    spearman: float
    ssim: float


def similarity(first: Map, second: Map, brain: Mask) -> Similarity:
    """Compare two maps inside a brain; a constant map is like nothing (0), unless both are."""
    return Similarity(
        rank_correlation(first[brain], second[brain]), structural_similarity(first, second, brain)
    )


def rank_correlation(first: Floats | Map, second: Floats | Map) -> float:
    """Spearman's rho of two vectors; 0 where only one is constant, 1 where both are."""
    flat = [bool(np.ptp(values) == 0) for values in (first, second)]
    if any(flat):
        return float(all(flat))
    return float(spearmanr(first, second).statistic)


def structural_similarity(first: Map, second: Map, brain: Mask) -> float:
    """Mean SSIM in the brain (Wang et al. 2004), Gaussian window of 1.5 voxels, 3D.

    Both maps are scaled to a maximum of 1 in the brain, and means are taken over its voxels alone:
    the background, the same everywhere, would make any two maps alike. Two maps that are nearly
    zero almost everywhere inside the brain still are: rank correlation does not have that fault.
    """
    box = find_objects(brain.astype(np.uint8))[0]
    brain = brain[box]
    x, y = (_scaled(values[box], brain) for values in (first, second))
    weight = _window(brain.astype(np.float32))[brain]

    def mean(values: Floats) -> Floats:
        return np.asarray(_window(values.astype(np.float32))[brain] / weight, dtype=np.float64)

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    value = ((2 * mx * my + _C1) * (2 * vxy + _C2)) / ((mx**2 + my**2 + _C1) * (vx + vy + _C2))
    return float(value.mean())


def _window(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(gaussian_filter(values, _SIGMA, truncate=2.5))


def _scaled(values: Map, brain: Mask) -> Floats:
    inside = np.where(brain, np.asarray(values, dtype=np.float64), 0.0)
    return inside / max(float(inside.max()), 1e-300)
