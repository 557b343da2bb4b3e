"""Maps that know nothing of the model: what an explanation has to beat."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import sobel

from shared_model.explanation.relevance import Map

Volume = npt.NDArray[np.float32]


def edges(volume: Volume, labels: npt.NDArray[np.int16]) -> Map:
    """Length of the Sobel gradient of a scan: the edge detector of Adebayo et al. 2018."""
    gradient = [sobel(volume, axis=axis) for axis in range(3)]
    length = np.sqrt(sum(part.astype(np.float64) ** 2 for part in gradient))
    return np.where(labels > 0, length, 0).astype(np.float32)


def mean_brain(volume: Volume, labels: npt.NDArray[np.int16], floor: float) -> Map:
    """The grey of a mean brain above ``floor``, the value of the background."""
    return np.where(labels > 0, np.maximum(volume - floor, 0), 0).astype(np.float32)
