"""The simplest rival: voxels of the brain that are too dark or too bright, in large enough clumps.

Two thresholds on the standardised greys and a smallest clump, chosen on the training patients of
all hospitals together: it has all the data that the pooled network has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, binary_fill_holes, label, median_filter

from client.training.examples import PatientExamples
from client.training.scan_inputs import volume_of
from shared_model.metrics.boxes import boxes_of
from shared_model.metrics.detection import Found
from shared_model.metrics.overlap import dice

_BACKGROUND = -4.0
_RIM = 2  # voxels at the brain's edge, where partial volume is dark everywhere

Volume = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Threshold:
    """What counts as a lesion: below ``dark`` or above ``bright``, ``least`` voxels together."""

    dark: float
    bright: float
    least: int
    smooth: bool

    def mask(self, volume: Volume) -> npt.NDArray[np.bool_]:
        """``(D, H, W)``."""
        return self.numbers(volume) > 0

    def numbers(self, volume: Volume) -> npt.NDArray[np.int32]:
        """``(D, H, W)`` clumps."""
        inside = _inside(volume)
        greys = median_filter(volume, 3) if self.smooth else volume
        found = ((greys < self.dark) | (greys > self.bright)) & inside
        parts, _ = label(found, structure=np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel())
        parts[sizes[parts] < self.least] = 0
        return np.asarray(parts, dtype=np.int32)

    def found(self, volume: Volume) -> Found:
        """Boxes of the clumps; the darker one is at its darkest, the surer."""
        parts = self.numbers(volume)
        kept = np.unique(parts[parts > 0])
        scores = np.array([-float(volume[parts == n].min()) for n in kept])
        return Found(boxes_of(parts), scores)


def scans(
    examples: Sequence[PatientExamples],
) -> Iterator[tuple[int, Volume, npt.NDArray[np.int16]]]:
    """Patient's row, volume and lesion numbers of every scan."""
    for row, patient in enumerate(examples):
        for inputs, targets in patient.chunks():
            volume = volume_of(inputs)[0, 0].cpu().numpy()
            yield row, volume, targets[0].cpu().numpy().astype(np.int16)


def best_threshold(
    examples: Sequence[PatientExamples], candidates: Sequence[Threshold] | None = None
) -> Threshold:
    """The one with the highest mean Dice over training patients."""
    known = [(volume, numbers > 0) for _, volume, numbers in scans(examples)]

    def score(threshold: Threshold) -> float:
        values = [dice(threshold.mask(volume), truth) for volume, truth in known]
        return float(np.nanmean(values))

    return _best(candidates or _CANDIDATES, score)


_CANDIDATES = [
    Threshold(dark, bright, least, smooth)
    for dark, bright, least, smooth in itertools.product(
        (-9.0, -2.1, -1.8, -1.5), (1.6, 2.0, 9.0), (30,), (False, True)
    )
    if dark > -9 or bright < 9
]
#: Small clumps of dark voxels, for spots.
SPOTS = [
    Threshold(dark, 9.0, least, False)
    for dark, least in itertools.product((-2.2, -1.9, -1.6, -1.3, -1.0), (2, 5))
]


def _best(candidates: Sequence[Threshold], score: Callable[[Threshold], float]) -> Threshold:
    return max(candidates, key=score)


def _inside(volume: Volume) -> npt.NDArray[np.bool_]:
    brain = binary_fill_holes(volume > _BACKGROUND)
    return np.asarray(binary_erosion(brain, iterations=_RIM), dtype=bool)
