"""The air around a head: its noise, and whether somebody has set it to zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from client.preprocessing.image import Image, Mask, Volume

_BLOCK_MM = 4.0
# Above the air's level by this part of its distance to the brain's is head.
_HEAD = 0.12
# The share of an image that is air at least, where the head leaves room around it.
_AIR = 5
_MARGIN_MM = 12.0
_MAD = 1.4826
# Fewer voxels of air than this say nothing about noise.
_LEAST = 2000


@dataclass(frozen=True)
class Background:
    """What lies further than 12 mm from the head.

    Attributes:
        voxels: how many.
        zero_share: part of them that is exactly zero: 1 where the image was stripped or masked.
        deviation: robust standard deviation of their greys (1.4826 MAD), in the image's unit.
        energy: median of their squared greys.
        head_energy: median of the squared greys of the head.
    """

    voxels: int
    zero_share: float
    deviation: float
    energy: float
    head_energy: float

    @property
    def missing(self) -> str | None:
        """Why noise cannot be measured, if it cannot."""
        if self.voxels < _LEAST:
            return "the image shows no air around the head"
        if self.zero_share >= 0.5:
            return f"the background was set to zero ({self.zero_share:.0%} of it)"
        return None


def measure_background(image: Image, brain: Mask) -> Background:
    """Find the head on blocks of 4 mm, and look at the voxels away from it.

    Args:
        image: a scan, ``(I, J, K)``, with or without the skull.
        brain: ``(I, J, K)`` its brain, not empty.
    """
    voxels = image.voxels
    step = tuple(max(1, round(_BLOCK_MM / mm)) for mm in image.spacing_mm)
    bright = float(np.median(voxels[brain]))
    blocks = _blocks(voxels, step)
    floor = min(float(np.percentile(blocks, _AIR)), 0.6 * bright)
    head = _head(blocks > floor + _HEAD * (bright - floor))
    air = ~ndimage.binary_dilation(head, iterations=round(_MARGIN_MM / _BLOCK_MM))
    trimmed = tuple(slice(0, n * s) for n, s in zip(head.shape, step, strict=True))
    around = voxels[trimmed][_unblock(air, step)]
    inside = voxels[trimmed][_unblock(head, step)]
    if not around.size:
        return Background(0, 1.0, 0.0, 0.0, float(np.median(inside**2)))
    zero = float(np.mean(np.abs(around) <= 1e-7 * max(bright, 1e-30)))
    median = float(np.median(around))
    return Background(
        voxels=int(around.size),
        zero_share=zero,
        deviation=_MAD * float(np.median(np.abs(around - median))),
        energy=float(np.median(around.astype(np.float64) ** 2)),
        head_energy=float(np.median(inside.astype(np.float64) ** 2)),
    )


def _blocks(voxels: Volume, step: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Means over blocks; what does not fill a block at the far sides is left out."""
    i, j, k = (n // s for n, s in zip(voxels.shape, step, strict=True))
    a, b, c = step
    whole = voxels[: i * a, : j * b, : k * c].reshape(i, a, j, b, k, c)
    means: npt.NDArray[np.float32] = whole.mean(axis=(1, 3, 5))
    return means


def _unblock(mask: Mask, step: tuple[int, ...]) -> Mask:
    i, j, k = step
    whole: Mask = mask.repeat(i, axis=0).repeat(j, axis=1).repeat(k, axis=2)
    return whole


def _head(bright: Mask) -> Mask:
    """The largest piece, with what it encloses; speckles of noise and ghosts are dropped."""
    opened = ndimage.binary_opening(bright)
    labels, count = ndimage.label(opened)
    if count == 0:
        return bright
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    closed = ndimage.binary_closing(largest, iterations=2) | largest
    filled: Mask = ndimage.binary_fill_holes(closed)
    return filled
