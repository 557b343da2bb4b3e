"""Boxes around lesions in 3D: ``(N, 6)`` lower then upper faces in voxels, half open."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

Boxes = npt.NDArray[np.float64]


def boxes_of(numbers: npt.NDArray[np.integer]) -> Boxes:
    """``(N, 6)`` tight boxes of lesion numbers ``(D, H, W)``, in the order of the numbers."""
    found = [place for place in find_objects(numbers) if place is not None]
    rows = [[*(s.start for s in place), *(s.stop for s in place)] for place in found]
    boxes: Boxes = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return boxes


def iou(one: Boxes, other: Boxes) -> Boxes:
    """``(N, M)`` intersection over union of volumes."""
    low = np.maximum(one[:, None, :3], other[None, :, :3])
    high = np.minimum(one[:, None, 3:], other[None, :, 3:])
    overlap = np.clip(high - low, 0, None).prod(-1)
    sides = [np.clip(b[:, 3:] - b[:, :3], 0, None) for b in (one, other)]
    union = sides[0].prod(-1)[:, None] + sides[1].prod(-1)[None] - overlap
    shares: Boxes = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return shares


def suppressed(boxes: Boxes, scores: npt.NDArray[np.float64], most: float) -> npt.NDArray[np.intp]:
    """Rows that are left, best first, when none may overlap a better one by an IoU above ``most``.

    Greedy non-maximum suppression.
    """
    waiting = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(waiting):
        best, waiting = int(waiting[0]), waiting[1:]
        kept.append(best)
        waiting = waiting[iou(boxes[[best]], boxes[waiting])[0] <= most]
    return np.array(kept, dtype=np.intp)
