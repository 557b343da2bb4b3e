"""How smooth an image is, as the width of the blur that would explain it."""

from __future__ import annotations

import numpy as np

from client.preprocessing.image import Image, Mask


def smoothness_mm(image: Image, brain: Mask) -> float | None:
    """Mean full width at half maximum over the three axes, mm (Forman et al. 1995).

    From the variance of differences between neighbours against the variance of the greys; anatomy
    counts as smoothness, so 3 to 5 mm are usual at 1 mm voxels, and noise lowers it. None where an
    axis is rougher than white noise.

    Args:
        image: ``(I, J, K)``.
        brain: ``(I, J, K)``, more than one voxel.
    """
    variance = float(image.voxels[brain].var(dtype=np.float64))
    widths = []
    for axis, mm in enumerate(image.spacing_mm):
        here = [slice(None)] * 3
        there = [slice(None)] * 3
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        first, second = tuple(here), tuple(there)
        both = brain[first] & brain[second]
        steps = image.voxels[second][both] - image.voxels[first][both]
        if not steps.size or variance == 0:
            return None
        alike = 1 - float(steps.var(dtype=np.float64)) / (2 * variance)
        if not 0 < alike < 1:
            return None
        widths.append(mm * np.sqrt(-2 * np.log(2) / np.log(alike)))
    return float(np.mean(widths))
