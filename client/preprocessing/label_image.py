"""An image whose voxels are labels: a segmentation or a mask that was filed as a scan."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from client.archive.problems import Defect, Problem

# A segmentation of the whole head has some 50 labels, of the cortex's parcels some 200.
_MOST_LABELS = 256
# Of touching foreground voxels, so many have the same value. Label maps at 1 and 2 mm: 80 % on, at
# 3 mm 74 %. Real heads: at most 26 %; rounded to 32 greys 48 %; blurred by 8 mm and rounded to 64
# greys 63 % (seven heads; docs/preprocessing.md).
_FLAT = 0.70


def refuse_labels(voxels: npt.NDArray[np.float32], grey_levels: int) -> None:
    """Raise a Defect, SMR-E248, for an image of few values that lie in large flat areas.

    Both are needed: many real scans have few greys, and some have smooth ones.

    Args:
        voxels: ``(I, J, K)`` as stored, in any orientation.
        grey_levels: different values, as :func:`client.quality.header.count_grey_levels` counts.
    """
    if grey_levels > _MOST_LABELS:
        return
    flat = flat_share(voxels)
    if flat >= _FLAT:
        found = f"{grey_levels} different values, and {flat:.0%} of touching voxels are equal"
        raise Defect(Problem.LABEL_IMAGE, found)


def flat_share(voxels: npt.NDArray[np.float32]) -> float:
    """Part of all pairs of touching foreground voxels that have exactly the same value.

    Foreground is what differs from the most frequent value. 0 without such a pair.
    """
    values, counts = np.unique(voxels[::2, ::2, ::2], return_counts=True)
    foreground = voxels != values[counts.argmax()]
    equal = pairs = 0
    for axis in range(3):
        greys, inside = np.moveaxis(voxels, axis, 0), np.moveaxis(foreground, axis, 0)
        both = inside[1:] & inside[:-1]
        pairs += int(np.count_nonzero(both))
        equal += int(np.count_nonzero((greys[1:] == greys[:-1]) & both))
    return equal / max(pairs, 1)
