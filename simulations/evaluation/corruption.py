"""Prepared scans made worse in five ways at graded strengths, to see when a model gives way.

The effect is put on the prepared greys and the scan standardised anew, as preparation would do with
a bad acquisition; what is background stays so. Strengths are fixed and public, and a scan's
corruption depends on seed, patient, scan and kind alone: the same pattern at every severity, only
stronger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from client.archive.patients import Scan
from client.prepared.intensity import BACKGROUND, Intensity, standardise
from client.training.augmentation.effects import (
    BIAS_MODES,
    add_noise,
    bias_field,
    rejoin_slices,
    sample_slices,
)
from client.training.augmentation.stream import augmentation_stream
from client.training.scan_inputs import VolumeSource

Volume = npt.NDArray[np.float32]
Kind = Literal["noise", "bias_field", "motion", "resolution", "missing_slices"]

KINDS: tuple[Kind, ...] = get_args(Kind)
SEVERITIES = (1, 2, 3, 4, 5)

#: Severity 1 to 5 of each kind, in the unit that is named.
STRENGTHS: Mapping[Kind, tuple[float, ...]] = {
    "noise": (0.15, 0.3, 0.5, 0.8, 1.2),  # sd of Rician noise, robust z-score of the brain
    "bias_field": (0.1, 0.2, 0.3, 0.4, 0.5),  # rms of the log of a smooth gain
    "motion": (1.0, 2.0, 3.0, 5.0, 8.0),  # largest shift between parts of k-space, mm
    "resolution": (3.0, 4.0, 5.0, 6.0, 8.0),  # slice thickness along one axis, mm
    "missing_slices": (0.02, 0.05, 0.1, 0.15, 0.2),  # share of the brain's slices along one axis
}
_SPAN = np.float32(-2 * BACKGROUND)
_MOVEMENTS = 4
_SURROUND_QUANTILE = 0.05


def corrupt(
    volume: Volume,
    kind: Kind,
    severity: int,
    stream: np.random.Generator,
    spacing_mm: float,
    intensity: Intensity = "zscore",
) -> Volume:
    """A prepared scan ``(D, H, W)`` in [-4, 4] with one corruption, standardised again.

    Severity 0 is the scan as it is. Slices thinner than the grid's spacing change nothing. Raises
    ValueError for another severity or kind.
    """
    if kind not in KINDS or severity not in (0, *SEVERITIES):
        raise ValueError(f"no corruption {kind!r} of severity {severity!r}")
    brain = volume > BACKGROUND
    if severity == 0 or not brain.any():
        return volume.copy()
    strength = STRENGTHS[kind][severity - 1]
    # Air is nought and the brain's greys are above it, as on a magnitude image.
    greys = (volume - np.float32(BACKGROUND)) / _SPAN
    axis = int(stream.integers(3))
    if kind == "noise":
        greys = add_noise(greys, strength / float(_SPAN), "rician", stream)
    elif kind == "bias_field":
        modes = stream.standard_normal((BIAS_MODES,) * 3)
        greys = greys * bias_field(greys.shape, modes, strength)
    elif kind == "motion":
        greys = _shift_while_scanning(greys, axis, strength / spacing_mm, stream)
    elif kind == "resolution":
        if strength > spacing_mm:
            # Around the brain there is fluid, not air: thick slices must not darken its rim.
            fluid = np.quantile(greys[brain], _SURROUND_QUANTILE)
            slices = sample_slices(np.where(brain, greys, fluid), axis, strength, spacing_mm)
            greys = rejoin_slices(slices, axis, volume.shape[axis])
    else:
        brain = brain & ~_lost(brain, axis, strength, stream)
    return standardise(greys, brain, intensity)


@dataclass(frozen=True)
class CorruptedVolumes:
    """A source of volumes that corrupts those of another.

    Attributes:
        source: the hospital's prepared scans.
        keys: patient and number of the scan, by its path.
        kind: of the corruption.
        severity: 0 to 5; 0 changes nothing.
        seed: decides, with the key, the pattern.
        spacing_mm: of the grid.
        intensity: the plan's standardisation.
    """

    source: VolumeSource
    keys: Mapping[Path, tuple[str, int]]
    kind: Kind
    severity: int
    seed: int
    spacing_mm: float
    intensity: Intensity

    def volume(self, scan: Scan) -> Volume:
        """``(D, H, W)`` of one scan, corrupted."""
        patient, number = self.keys[scan.path]
        stream = augmentation_stream("corruption", self.kind, self.seed, patient, number)
        clean = self.source.volume(scan)
        return corrupt(clean, self.kind, self.severity, stream, self.spacing_mm, self.intensity)


def _shift_while_scanning(
    greys: Volume, axis: int, voxels: float, stream: np.random.Generator
) -> Volume:
    """Magnitude of an image whose k-space lines along ``axis`` were taken at several positions.

    The head lies still for the middle of k-space and at each movement goes somewhere else, at most
    ``voxels`` along each axis: ghosts along the phase encoding, and blur.
    """
    side = greys.shape[axis]
    # Positions after each movement, in units of the largest, and the lines between movements.
    places = stream.uniform(-1, 1, (_MOVEMENTS + 1, 3))
    edges = np.sort(stream.permutation(side - 1)[:_MOVEMENTS] + 1)
    part = np.searchsorted(edges, np.arange(side), side="right")
    places[part[side // 2]] = 0.0
    along = [-1 if a == axis else 1 for a in range(3)]
    k_space = np.fft.fftn(greys)
    phase = np.zeros((1, 1, 1))
    for a, n in enumerate(greys.shape):
        frequency = np.fft.fftfreq(n).reshape([-1 if b == a else 1 for b in range(3)])
        # Lines are taken in the order of rising frequency.
        shift = np.fft.ifftshift(places[part, a]).reshape(along) * voxels
        phase = phase + frequency * shift
    moved: Volume = np.abs(np.fft.ifftn(k_space * np.exp(-2j * np.pi * phase))).astype(np.float32)
    return moved


def _lost(
    brain: npt.NDArray[np.bool_], axis: int, share: float, stream: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Mask ``(D, H, W)`` of some of the brain's slices along an axis, at least one and not all."""
    others = tuple(a for a in range(3) if a != axis)
    filled = np.flatnonzero(brain.any(axis=others))
    count = min(max(1, round(share * len(filled))), len(filled) - 1)
    gone = np.zeros(brain.shape[axis], dtype=bool)
    gone[stream.permutation(filled)[:count]] = True
    return np.broadcast_to(gone.reshape([-1 if a == axis else 1 for a in range(3)]), brain.shape)
