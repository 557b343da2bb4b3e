"""What is done to one view: drawn from the plan's ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from client.training.augmentation.effects import BIAS_MODES, Matrix, Triple, pose_matrix
from shared_model.augmentation import AugmentationSection


@dataclass(frozen=True, eq=False)
class Effects:
    """What is done to one view; an effect that takes no part is None, 0 or 1.

    Attributes:
        flip: left and right exchanged.
        pose: ``(4, 4)`` new to old voxels about the centre, or None.
        gamma: exponent of greys in [0, 1].
        bias_rms: of the log field; ``bias_modes`` ``(M, M, M)`` its shape.
        blur_fwhm_mm: per axis.
        slice_mm: thickness of slices along ``slice_axis``; 0 for none.
        noise_sd: z-score, of voxels of the grid, and the ``noise`` it is.
        grey_scale: factor after standardisation.
        grey_shift: offset after standardisation, z-score.
    """

    flip: bool
    pose: Matrix | None
    gamma: float
    bias_rms: float
    bias_modes: Matrix
    blur_fwhm_mm: Triple
    slice_mm: float
    slice_axis: int
    noise_sd: float
    noise: Literal["rician", "gaussian"]
    grey_scale: float
    grey_shift: float


def draw_effects(
    section: AugmentationSection, spacing_mm: float, stream: np.random.Generator
) -> Effects:
    """Draw the effects of a view.

    Every number is drawn whether it is used or not, so that one range of the plan never changes
    what another effect looks like.
    """
    takes_part = stream.random(8) < section.probability
    flip = bool(stream.random() < section.flip_probability)
    sides = stream.uniform(-1, 1, 12)
    sizes = stream.uniform(0, 1, 6)
    axis = int(stream.integers(3))
    modes = stream.standard_normal((BIAS_MODES,) * 3)
    posed, bent, biased, blurred, sliced, noisy, scaled, shifted = (bool(t) for t in takes_part)
    thickest = max(section.slice_mm, spacing_mm)
    return Effects(
        flip=flip,
        pose=pose_matrix(
            _triple(section.rotation_deg * sides[:3]),
            _triple(section.shift_mm * sides[3:6]),
            _triple(1 + section.scale * sides[6:9]),
            spacing_mm,
        )
        if posed
        else None,
        gamma=float(np.exp(section.log_gamma * sides[9])) if bent else 1.0,
        bias_rms=section.bias_rms * sizes[0] if biased else 0.0,
        bias_modes=modes,
        blur_fwhm_mm=_triple(section.blur_fwhm_mm * sizes[1:4]) if blurred else (0.0, 0.0, 0.0),
        slice_mm=spacing_mm + (thickest - spacing_mm) * sizes[4] if sliced else 0.0,
        slice_axis=axis,
        noise_sd=section.noise_sd * sizes[5] if noisy else 0.0,
        noise=section.noise,
        grey_scale=1 + section.grey_scale * sides[10] if scaled else 1.0,
        grey_shift=section.grey_shift * sides[11] if shifted else 0.0,
    )


def _triple(values: npt.NDArray[np.float64]) -> Triple:
    x, y, z = (float(value) for value in values)
    return x, y, z
