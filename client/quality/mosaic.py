"""A scan at one glance: slices in three planes with the outline of its brain and of MNI152's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform, binary_erosion, uniform_filter

from client.prepared.brain_mask import brain_prior
from client.preprocessing.image import Affine, Mask, Volume, Work
from client.quality.png import Colour, encode_png
from shared_model.grid import ModelGrid

#: Outline of the scan's brain mask, and of the template's brain.
MASK_COLOUR: Colour = (255, 196, 0)
TEMPLATE_COLOUR: Colour = (0, 208, 255)
_GREYS = 40
_PALETTE: tuple[Colour, ...] = (
    *((v, v, v) for v in np.linspace(0, 255, _GREYS).round().astype(int).tolist()),
    MASK_COLOUR,
    TEMPLATE_COLOUR,
)
# Where the planes lie, MNI mm; each list from left, back or below.
_AXIAL_MM = (-44, -30, -16, -2, 12, 26, 42, 58)
_CORONAL_MM = (-88, -68, -48, -28, -8, 12, 32, 52)
_SAGITTAL_MM = (-54, -36, -18, 0, 18, 36, 54)
# The mosaic is drawn at this resolution whatever the model's grid is.
_GRID = ModelGrid(spacing_mm=2.0)

Pixels = npt.NDArray[np.uint8]


def scan_mosaic(work: Work) -> bytes:
    """PNG of a registered scan, with its skull if it still has one; 50 to 100 kB.

    Three rows: axial from below, coronal from behind, sagittal from the left. The patient's right
    is on the picture's right, as on the model grid. Raises ValueError
    for a scan without a brain mask or not registered.
    """
    if work.brain is None or work.to_mni is None:
        raise ValueError("a mosaic needs the brain mask and the registration")
    placed = work.to_mni @ work.image.affine
    # For the eye, means over 2 mm do; the model's own resampling is ten times slower.
    size = [max(1, round(_GRID.spacing_mm / mm)) for mm in work.image.spacing_mm]
    head = _on_grid(uniform_filter(work.image.voxels, size, mode="nearest"), placed)
    brain = _on_grid(work.brain.astype(np.float32), placed) > 0.5
    return mosaic(head, brain)


def mosaic(volume: Volume, brain: Mask) -> bytes:
    """PNG of a volume on the 2 mm grid.

    Args:
        volume: ``(88, 104, 88)`` greys, any unit; scaled to the brain's 1st and 99.5th percentile.
        brain: ``(88, 104, 88)`` its brain. Raises ValueError for another shape.
    """
    if volume.shape != _GRID.shape or brain.shape != _GRID.shape:
        raise ValueError(f"a mosaic needs {_GRID.shape} voxels, found {volume.shape}")
    inside = volume[brain] if brain.any() else volume
    low, high = np.percentile(inside, (1, 99.5))
    # Air is black: the head around the brain is part of the picture.
    low = min(float(low), float(volume.min())) if volume.min() >= 0 else float(low)
    scaled = np.clip((volume - low) / max(float(high) - low, 1e-12), 0, 1)
    greys = np.round(scaled * (_GREYS - 1)).astype(np.uint8)
    template = brain_prior(_GRID).brain
    rows = [
        _row(greys, brain, template, axis, places)
        for axis, places in ((2, _AXIAL_MM), (1, _CORONAL_MM), (0, _SAGITTAL_MM))
    ]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]))) for row in rows]
    return encode_png(np.concatenate(padded), _PALETTE)


def _on_grid(voxels: Volume, affine: Affine) -> Volume:
    out: Volume = affine_transform(
        voxels, np.linalg.inv(affine) @ _GRID.affine, output_shape=_GRID.shape, order=1
    )
    return out


def _row(
    greys: Pixels, brain: Mask, template: Mask, axis: int, places_mm: tuple[int, ...]
) -> Pixels:
    tiles = []
    for place in places_mm:
        index = round((place - _GRID.affine[axis, 3]) / _GRID.spacing_mm)
        tile, mask, outline = (np.take(a, index, axis=axis) for a in (greys, brain, template))
        drawn = tile.copy()
        drawn[_edge(outline)] = _GREYS + 1
        drawn[_edge(mask)] = _GREYS
        # The first axis left runs to the right, the second upwards.
        tiles.append(drawn.T[::-1])
    return np.concatenate(tiles, axis=1)


def _edge(mask: Mask) -> Mask:
    edge: Mask = mask & ~binary_erosion(mask)
    return edge
