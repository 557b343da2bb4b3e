"""What fingerprints are better than: correlating plain volumes at 8 mm."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from client.prepared.brain_mask import brain_prior
from client.preprocessing.image import Mask, Volume
from shared_model.grid import ModelGrid
from simulations.benchmarks.quality_calibration.prepared_heads import OnGrid
from simulations.benchmarks.quality_calibration.span import Span

_BLOCK_MM = 8.0
_LIMIT = 4.0

Floats = npt.NDArray[np.float64]


def plain_likeness(
    heads: Sequence[OnGrid], rescans: Sequence[OnGrid], grid: ModelGrid
) -> dict[str, Span | None]:
    """Correlations of block means inside the template's brain.

    Between different people; and of each head with its simulated rescan, and with itself under
    another coil (20 % more and less along x, 15 % along z). Where the ranges meet, no limit tells
    people apart.
    """
    plain = [_blocks(head.volume, head.brain, grid) for head in heads]
    again = [_blocks(head.volume, head.brain, grid) for head in rescans]
    coils = [_blocks(_under_another_coil(head.volume), head.brain, grid) for head in heads]
    return {
        "plain at 8 mm: different people": Span.of(float(a @ b) for a, b in combinations(plain, 2)),
        "plain at 8 mm: one head, another coil": Span.of(
            float(a @ b) for a, b in zip(plain, coils, strict=True)
        ),
        "plain at 8 mm: one head, rescan": Span.of(
            float(a @ b) for a, b in zip(plain, again, strict=True)
        ),
    }


def _under_another_coil(volume: Volume) -> Volume:
    x = np.linspace(0.8, 1.2, volume.shape[0])[:, None, None]
    z = np.linspace(0.85, 1.15, volume.shape[2])
    ramped: Volume = (volume * x * z).astype(np.float32)
    return ramped


def _blocks(volume: Volume, brain: Mask, grid: ModelGrid) -> Floats:
    """``(N,)`` robust z of block means, of mean 0 and length 1; no brain counts as its mean."""
    side = max(1, round(_BLOCK_MM / grid.spacing_mm))
    weight = _mean(brain, side)
    greys = _mean(np.where(brain, volume, 0), side) / np.maximum(weight, 0.05)
    greys = np.where(weight < 0.5, greys[weight > 0.5].mean(), greys)
    inside = greys[_mean(brain_prior(grid).brain, side) > 0.5]
    centred = inside - np.median(inside)
    z = np.clip(centred / (1.4826 * np.median(np.abs(centred))), -_LIMIT, _LIMIT)
    z -= z.mean()
    unit: Floats = z / np.linalg.norm(z)
    return unit


def _mean(values: npt.NDArray[np.generic], side: int) -> Floats:
    i, j, k = (n // side for n in values.shape)
    whole = values[: i * side, : j * side, : k * side].astype(np.float64)
    means: Floats = whole.reshape(i, side, j, side, k, side).mean(axis=(1, 3, 5))
    return means
