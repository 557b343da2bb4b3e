"""Whether lesions were found, one by one, whatever their size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label

#: Share of a lesion that a prediction must cover, and of a predicted one that must be lesion.
COVERED = 0.1


@dataclass(frozen=True)
class LesionCounts:
    """Lesions of one scan.

    Attributes:
        lesions: true ones.
        found: of these, covered by a prediction.
        predicted: connected components (26 neighbours) of the prediction.
        right: of these, on a lesion.
    """

    lesions: int
    found: int
    predicted: int
    right: int

    def __add__(self, other: LesionCounts) -> LesionCounts:
        return LesionCounts(
            self.lesions + other.lesions,
            self.found + other.found,
            self.predicted + other.predicted,
            self.right + other.right,
        )

    @property
    def f1(self) -> float:
        """Harmonic mean of the share found and the share right; NaN without either kind."""
        if self.lesions + self.predicted == 0:
            return float("nan")
        recall = self.found / self.lesions if self.lesions else 0.0
        precision = self.right / self.predicted if self.predicted else 0.0
        return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def lesion_counts(
    predicted: npt.NDArray[np.bool_], numbers: npt.NDArray[np.integer], covered: float = COVERED
) -> LesionCounts:
    """Compare a mask ``(D, H, W)`` with lesion numbers ``(D, H, W)``, 0 for none."""
    parts, count = label(predicted, structure=np.ones((3, 3, 3)))
    known = np.unique(numbers[numbers > 0])
    found = sum(bool(predicted[numbers == n].mean() >= covered) for n in known)
    right = sum(bool((numbers[parts == n] > 0).mean() >= covered) for n in range(1, count + 1))
    return LesionCounts(len(known), found, int(count), right)
