"""What is peculiar to one person's brain: its folds, without scanner, coil or template."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform, binary_erosion, gaussian_filter

from client.prepared.brain_mask import brain_prior
from client.preprocessing.image import Mask, Volume
from shared_model.atlas.tissue import load_tissue_maps
from shared_model.grid import ModelGrid

#: Raise it with any change of a fingerprint's values; those of two versions are not compared.
FINGERPRINT_VERSION = 1
# Structure between these widths (full width at half maximum, mm) is kept: finer is noise and
# misregistration, coarser is coil sensitivity.
_FINEST_MM, _COARSEST_MM = 6.0, 20.0
# How far inside the template's brain, so that the edge of a mask has no say.
_INSIDE_MM = 6.0
_LATTICE = ModelGrid(spacing_mm=4.0)
_SIGMA_PER_FWHM = 1 / 2.3548200450309493
_LIMIT = 3.0

Fingerprint = npt.NDArray[np.float16]
Floats = npt.NDArray[np.float32]


def fingerprint(volume: Volume, brain: Mask, grid: ModelGrid) -> Fingerprint:
    """``(N,)`` of length 1: the band-passed brain at 4 mm without what it shares with MNI152.

    The inner product of two fingerprints is the correlation of two brains' individual folds:
    below .3 between people, above .8 between scans of one person (docs/quality.md).
    About 50 kB. All zeros for a volume without structure.

    Args:
        volume: ``(D, H, W)`` greys on ``grid``, any unit.
        brain: ``(D, H, W)`` its brain, not empty.
        grid: any model grid.
    """
    lattice = _lattice()
    own = _band(volume, brain, grid)[lattice.inside]
    own = own - own.mean()
    own = own - (own @ lattice.template) * lattice.template
    return _unit(own).astype(np.float16)


def mirrored(print_: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The fingerprint ``(..., N)`` of the same brain with left and right swapped."""
    return print_[..., _lattice().mirror]


def asymmetry(print_: npt.NDArray[np.floating]) -> Floats:
    """``(..., N)`` of length 1: ``x - mirrored(x)``, by which left differs from right.

    Of a mirrored brain it is the negative.
    """
    wide = print_.astype(np.float32)
    return _unit(wide - mirrored(wide))


@dataclass(frozen=True, eq=False)
class _Lattice:
    """Points at 4 mm well inside the template's brain, on both sides alike.

    Attributes:
        inside: ``(44, 52, 44)`` the points.
        mirror: ``(N,)`` index of each point's mirror image.
        template: ``(N,)`` of length 1 and mean 0: the template's band there.
    """

    inside: Mask
    mirror: npt.NDArray[np.intp]
    template: Floats


@lru_cache(maxsize=1)
def _lattice() -> _Lattice:
    brain = brain_prior(_LATTICE).brain
    inside = brain & brain[::-1]
    inside = binary_erosion(inside, iterations=round(_INSIDE_MM / _LATTICE.spacing_mm))
    number = np.full(inside.shape, -1)
    number[inside] = np.arange(int(inside.sum()))
    mirror = number[::-1][inside]
    maps = load_tissue_maps()
    t1 = maps.t1.astype(np.float32)
    grid = ModelGrid(spacing_mm=2.0)
    on_grid = affine_transform(
        t1, np.linalg.inv(maps.affine) @ grid.affine, output_shape=grid.shape, order=1
    )
    band = _band(on_grid, brain_prior(grid).brain, grid)[inside]
    return _Lattice(inside, mirror, _unit(band - band.mean()))


def _band(volume: Volume, brain: Mask, grid: ModelGrid) -> Floats:
    """``(44, 52, 44)`` what lies between the two widths, 0 outside the brain."""
    inside = volume[brain]
    lower, median, upper = np.quantile(inside, (0.25, 0.5, 0.75))
    scale = max(float(upper - lower), 1e-12)
    greys = np.clip((volume - np.float32(median)) / np.float32(scale), -_LIMIT, _LIMIT)
    greys = np.where(brain, greys, 0).astype(np.float32)
    weight = brain.astype(np.float32)

    def smooth(width_mm: float) -> Floats:
        sigma = width_mm * _SIGMA_PER_FWHM / grid.spacing_mm
        total = gaussian_filter(weight, sigma, truncate=3.0)
        out: Floats = gaussian_filter(greys, sigma, truncate=3.0) / np.maximum(total, 1e-3)
        return out

    band = (smooth(_FINEST_MM) - smooth(_COARSEST_MM)) * weight
    coarse: Floats = affine_transform(
        band,
        np.linalg.inv(grid.affine) @ _LATTICE.affine,
        output_shape=_LATTICE.shape,
        order=1,
    )
    return coarse


def _unit(values: npt.NDArray[np.floating]) -> Floats:
    norm = np.linalg.norm(values, axis=-1, keepdims=True)
    unit: Floats = (values / np.maximum(norm, 1e-12)).astype(np.float32)
    return unit
