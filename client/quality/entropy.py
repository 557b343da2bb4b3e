"""Ghosting and blurring by motion, seen in the entropy of the greys."""

from __future__ import annotations

import numpy as np

from client.preprocessing.image import Volume


def entropy_focus(voxels: Volume) -> float:
    """Entropy focus criterion of an image (Atkinson et al. 1997), normalised by the image's size.

    0 with all energy in one voxel, 1 with equal energy everywhere; ghosts and blur raise it. Air
    counts: a stripped image and one with much air have lower values than a tight whole head.

    Args:
        voxels: ``(I, J, K)``, any unit; negative values count as their size.
    """
    size = np.abs(voxels, dtype=np.float64).ravel()
    largest = np.sqrt(size.size)
    energy = np.sqrt(size @ size)
    if energy == 0:
        return 0.0
    shares = size[size > 0] / energy
    return float(-(shares @ np.log(shares)) / (largest * np.log(largest)))
