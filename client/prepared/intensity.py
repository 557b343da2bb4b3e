"""Intensity standardisation of one scan by itself: no statistic of other patients enters."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from client.prepared.brain_mask import Mask, brain_mask, brain_prior
from client.prepared.resample import to_grid
from shared_model.atlas.tissue import load_tissue_maps
from shared_model.grid import ModelGrid

Intensity = Literal["zscore", "quantile"]
Volume = npt.NDArray[np.float32]

#: Standardised voxels lie in [-CLIP, CLIP].
CLIP = 4.0
#: Voxels outside the brain: as dark as can be, so that the brain's rim is no edge of its own.
BACKGROUND = -CLIP
_LANDMARKS = np.linspace(1, 99, 33)


def standardise(
    volume: npt.NDArray[np.floating],
    intensity: Intensity = "zscore",
    grid: ModelGrid | None = None,
) -> Volume:
    """Standardise one volume that is on the model grid.

    zscore: minus the median, over 1.4826 times the median absolute deviation, both in the brain.
    quantile: before that, the greys are mapped piecewise linearly so that 33 quantiles in the brain
    meet those of the public MNI152 template (Nyul and Udupa 1999, with fixed public landmarks).

    Args:
        volume: ``(D, H, W)`` finite, background darkest.
        intensity: the plan's choice.
        grid: the model grid; default: 2 mm.

    Returns:
        ``(D, H, W)`` float32 in [-4, 4]; -4 outside the brain.
    """
    grid = grid or ModelGrid()
    mask = brain_mask(volume, grid)
    greys = volume[mask].astype(np.float64)
    if intensity == "quantile":
        greys = _match(greys, _template_landmarks(grid))
    centre = np.median(greys)
    spread = 1.4826 * np.median(np.abs(greys - centre))
    # Most voxels of one value (a heavily quantised image): fall back on the standard deviation.
    scale = spread if spread > 0 else float(greys.std())
    out = np.full(volume.shape, BACKGROUND, dtype=np.float32)
    out[mask] = np.clip((greys - centre) / max(scale, np.finfo(np.float32).tiny), -CLIP, CLIP)
    return out


def _match(
    greys: npt.NDArray[np.float64], target: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    source, index = np.unique(np.percentile(greys, _LANDMARKS), return_index=True)
    if len(source) < 2:
        return greys
    to = target[index]
    out = np.interp(greys, source, to)
    # Beyond the outer landmarks the outer pieces go on as straight lines.
    for end, inner, beyond in ((0, 1, greys < source[0]), (-1, -2, greys > source[-1])):
        slope = (to[end] - to[inner]) / (source[end] - source[inner])
        out[beyond] = to[end] + slope * (greys[beyond] - source[end])
    return out


@lru_cache(maxsize=4)
def _template_landmarks(grid: ModelGrid) -> npt.NDArray[np.float64]:
    maps = load_tissue_maps()
    template = to_grid(maps.t1.astype(np.float32), maps.affine, grid)
    landmarks: npt.NDArray[np.float64] = np.percentile(
        template[_template_brain(grid)].astype(np.float64), _LANDMARKS
    )
    return landmarks


def _template_brain(grid: ModelGrid) -> Mask:
    return brain_prior(grid).brain
