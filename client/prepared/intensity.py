"""Grey values of a skull-stripped scan on a common scale, without looking at any other patient."""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from shared_model.atlas.tissue import load_tissue_maps

#: How grey values are brought to a common scale; the same words as in the plan.
Intensity = Literal["zscore", "quantile"]
#: What every voxel outside the brain holds: the dark end of the scale.
BACKGROUND = -4.0
_LIMIT = 4.0
# Interquartile range of a normal distribution with standard deviation 1.
_IQR_OF_NORMAL = 1.349
# Equally spaced quantiles, 0 and 1 among them, that "quantile" brings to the template's.
_QUANTILES = np.linspace(0, 1, 33)

Volume = npt.NDArray[np.float32]


def standardise(
    volume: npt.NDArray[np.generic],
    mask: npt.NDArray[np.bool_] | None = None,
    method: Intensity = "zscore",
    *,
    keep_outside: bool = False,
) -> Volume:
    """Robust z-score of the brain's voxels, clipped to [-4, 4]; outside the brain exactly -4.

    ``(x - median) / (IQR / 1.349)`` over the mask. With ``method="quantile"`` the greys are first
    mapped piecewise linearly so that 33 quantiles meet those of the public MNI152 T1 brain (Nyul
    and Udupa 1999, with fixed public landmarks). Only this scan and public values enter.

    Args:
        volume: ``(D, H, W)`` greys in any unit, finite.
        mask: ``(D, H, W)`` the brain; default: the voxels above 0, for a skull-stripped scan with
            an exact zero background.
        method: the plan's ``input.intensity``.
        keep_outside: put the voxels outside the brain on the same scale instead: a head that is not
            stripped. With ``"quantile"`` they follow the brain's end quantiles.

    Returns:
        ``(D, H, W)`` float32.

    Raises ValueError for a mask that is empty or of another shape, NaN or infinity in it, equal
    quartiles, and a method that does not exist.
    """
    if method not in get_args(Intensity):
        raise ValueError(f"intensity {method!r}, expected one of {get_args(Intensity)}")
    greys = np.asarray(volume, dtype=np.float32)
    brain = greys > 0 if mask is None else np.asarray(mask, dtype=bool)
    if brain.shape != greys.shape:
        raise ValueError(f"a mask of shape {brain.shape} for a volume of shape {greys.shape}")
    inside = greys[brain]
    if not inside.size:
        raise ValueError("the brain mask holds no voxel")
    if not np.isfinite(inside).all():
        raise ValueError("the brain holds NaN or infinity")
    if method == "quantile":
        matched = _as_template(greys.ravel() if keep_outside else inside, inside)
        greys = matched.reshape(greys.shape) if keep_outside else greys
        inside = greys[brain] if keep_outside else matched
    lower, median, upper = np.quantile(inside, (0.25, 0.5, 0.75))
    if not upper > lower:
        raise ValueError("the brain has no contrast: its quartiles are equal")
    factor = np.float32(_IQR_OF_NORMAL / (upper - lower))
    if keep_outside:
        whole: Volume = np.clip((greys - np.float32(median)) * factor, -_LIMIT, _LIMIT)
        return whole
    scaled = (inside - np.float32(median)) * factor
    out = np.full(greys.shape, BACKGROUND, dtype=np.float32)
    out[brain] = np.clip(scaled, -_LIMIT, _LIMIT)
    return out


def _as_template(greys: Volume, inside: Volume) -> Volume:
    """Greys mapped so that the quantiles of those ``inside`` meet the template's."""
    levels = np.quantile(inside, _QUANTILES)
    # Many voxels of one value make equal quantiles; np.interp needs rising ones.
    rising = np.concatenate([[True], np.diff(levels) > 0])
    matched = np.interp(greys, levels[rising], _template_levels()[rising])
    return np.asarray(matched, dtype=np.float32)


@cache
def _template_levels() -> npt.NDArray[np.float64]:
    """``(33,)`` quantiles of the public MNI152 T1 brain, greys 0 to 255."""
    t1 = load_tissue_maps().t1
    return np.asarray(np.quantile(t1[t1 > 0], _QUANTILES), dtype=np.float64)
