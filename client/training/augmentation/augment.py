"""One augmented view of one prepared scan."""

from __future__ import annotations

import numpy as np

from client.prepared.intensity import BACKGROUND, Intensity
from client.training.augmentation.draw import Effects, draw_effects
from client.training.augmentation.effects import (
    Greys,
    Mask,
    add_noise,
    bias_field,
    blur,
    move,
    rejoin_slices,
    sample_slices,
)
from client.training.augmentation.standard import Standard
from shared_model.augmentation import AugmentationSection

#: Part of the key of kept tokens: raise it with any change of what a view looks like.
VERSION = 2

_SPAN = -2 * BACKGROUND  # greys run from BACKGROUND to -BACKGROUND
_RADIUS_MM = 100.0  # no brain reaches further from its centre
# Darkest greys of a brain are CSF, which is also what lies around it.
_SURROUND_QUANTILE = 0.05


def augment(
    volume: Greys,
    section: AugmentationSection,
    stream: np.random.Generator,
    spacing_mm: float,
    intensity: Intensity = "zscore",
    measured: Mask | None = None,
) -> Greys:
    """A view of a prepared scan: pose, contrast, bias field, point spread, slices, noise.

    What is background stays exactly background. The view is brought back to the scan's own median
    and quartile distance (all quantiles, where the plan matches quantiles), as standardisation
    in preparation would, so that training and test greys are on one scale; the last scale and shift
    stand for how far that standardisation itself differs between scanners.

    Args:
        volume: ``(D, H, W)`` float32 in [-4, 4], background exactly -4; the head may be there.
        section: the plan's ranges.
        stream: decides the view; :func:`client.training.augmentation.stream.augmentation_stream`.
        spacing_mm: of the grid, isotropic.
        intensity: the plan's standardisation.
        measured: ``(D, H, W)`` where the scale is measured; none: everywhere but in the background.
            Where the head was kept, about where the brain is: air and skull have other greys, and
            effects move those otherwise.

    Returns:
        ``(D, H, W)`` float32, a new array.
    """
    effects = draw_effects(section, spacing_mm, stream)
    return apply_effects(volume, effects, stream, spacing_mm, intensity, measured)


def apply_effects(
    volume: Greys,
    effects: Effects,
    stream: np.random.Generator,
    spacing_mm: float,
    intensity: Intensity = "zscore",
    measured: Mask | None = None,
) -> Greys:
    """Do what was drawn; ``stream`` gives the noise. Otherwise as :func:`augment`."""
    view = np.full(volume.shape, BACKGROUND, dtype=np.float32)
    signal = volume > BACKGROUND
    if not signal.any():
        return view
    box = _box(signal, _margin(effects, spacing_mm))
    inside, brain = volume[box], signal[box]
    scale = Standard.of(inside[_within(brain, measured, box)], intensity)
    surround = np.quantile(inside[brain], _SURROUND_QUANTILE)
    # Greys in [0, 1]. Around the brain there is fluid, not zero: blur must not darken its rim.
    greys: Greys = np.where(brain, inside, np.float32(surround))
    greys = (greys - np.float32(BACKGROUND)) / np.float32(_SPAN)
    if effects.pose is not None:
        greys, brain = move(greys, brain, effects.pose)
    if effects.gamma != 1:
        np.power(greys, np.float32(effects.gamma), out=greys)
    if effects.bias_rms > 0:
        greys *= bias_field(greys.shape, effects.bias_modes, effects.bias_rms)
    greys = blur(greys, effects.blur_fwhm_mm, spacing_mm)
    thick = effects.slice_mm > spacing_mm
    if thick:
        greys = sample_slices(greys, effects.slice_axis, effects.slice_mm, spacing_mm)
    if effects.noise_sd > 0:
        # A thicker slice has more signal and the same noise.
        thinner = spacing_mm / max(effects.slice_mm, spacing_mm)
        greys = add_noise(greys, thinner * effects.noise_sd / _SPAN, effects.noise, stream)
    if thick:
        greys = rejoin_slices(greys, effects.slice_axis, brain.shape[effects.slice_axis])
    seen = scale.restore(greys[brain], greys[_within(brain, measured, box)])
    seen = seen * np.float32(effects.grey_scale) + np.float32(effects.grey_shift)
    view[box][brain] = np.clip(seen, BACKGROUND, -BACKGROUND)
    # The grid is symmetric about the midline.
    return view[::-1].copy() if effects.flip else view


def _within(signal: Mask, measured: Mask | None, box: tuple[slice, slice, slice]) -> Mask:
    """Where greys are measured in a box; all of the signal where the two do not meet."""
    if measured is None:
        return signal
    both = signal & measured[box]
    return both if both.any() else signal


def _margin(effects: Effects, spacing_mm: float) -> int:
    """Voxels by which the pose can move any voxel of a brain."""
    if effects.pose is None:
        return 0
    turned = np.abs(effects.pose[:3, :3] - np.eye(3)).sum(1).max() * _RADIUS_MM / spacing_mm
    return int(np.ceil(turned + np.abs(effects.pose[:3, 3]).max())) + 1


def _box(signal: Mask, margin: int) -> tuple[slice, slice, slice]:
    sides = []
    for axis in range(3):
        filled = np.flatnonzero(signal.any(axis=tuple(a for a in range(3) if a != axis)))
        sides.append(slice(max(int(filled[0]) - margin, 0), int(filled[-1]) + 1 + margin))
    return sides[0], sides[1], sides[2]
