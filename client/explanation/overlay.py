"""A relevance map over its scan in three planes, as one PNG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.prepared.intensity import BACKGROUND
from client.quality.png import encode_colour_png
from shared_model.explanation.relevance import Map
from shared_model.grid import ModelGrid
from shared_model.smrnet.tokens import PLANES, Plane

SLICES = 5
_APART_MM = 10.0
_PIXELS_PER_MM = 1.0
_GAP = 4
# Black, red, orange, yellow: from nothing to the map's maximum; readable in grey as well.
_HEAT = np.asarray([(70, 0, 30), (200, 20, 20), (245, 130, 10), (255, 235, 110)], dtype=np.float64)
# Below this share of the maximum the scan alone is seen.
_SEEN = 0.08

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Overlay:
    """A picture and what it shows.

    Attributes:
        png: rows sagittal, coronal, axial; the patient's right is on the picture's right.
        position_mm: per plane the MNI position of each picture, from left to right.
    """

    png: bytes
    position_mm: dict[Plane, tuple[float, ...]]


def overlay(scan: Map, voxels: Map, grid: ModelGrid) -> Overlay:
    """Draw the slices of every plane that hold most of the map, in the order of their position.

    Args:
        scan: ``(D, H, W)`` standardised greys.
        voxels: ``(D, H, W)`` the map; scaled to its maximum.
        grid: where both lie.
    """
    relevance = np.where(scan > BACKGROUND, np.asarray(voxels, dtype=np.float64), 0.0)
    top = float(relevance.max())
    colours = _blend(_greys(scan), relevance / top if top > 0 else relevance)
    rows: list[Pixels] = []
    positions: dict[Plane, tuple[float, ...]] = {}
    for axis, plane in enumerate(PLANES):
        chosen = _slices(relevance, axis, grid.spacing_mm)
        positions[plane] = tuple(
            float(grid.affine[axis, axis] * i + grid.affine[axis, 3]) for i in chosen
        )
        rows.append(_row([_upright(np.take(colours, i, axis)) for i in chosen], grid.spacing_mm))
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0))) for row in rows]
    return Overlay(encode_colour_png(np.concatenate(padded)), positions)


def _greys(scan: Map) -> npt.NDArray[np.float64]:
    inside = scan[scan > BACKGROUND]
    low, high = np.percentile(inside, (1, 99.5)) if inside.size else (0.0, 1.0)
    return np.where(scan > BACKGROUND, np.clip((scan - low) / max(high - low, 1e-6), 0, 1), 0.0)


def _blend(grey: npt.NDArray[np.float64], share: npt.NDArray[np.float64]) -> Pixels:
    """``(D, H, W, 3)`` greys with the heat over them, stronger where there is more."""
    stops = np.linspace(0, 1, len(_HEAT))
    heat = np.stack([np.interp(share, stops, _HEAT[:, k]) for k in range(3)], axis=-1)
    weight = np.where(share > _SEEN, 0.35 + 0.45 * share, 0.0)[..., None]
    return np.asarray(((1 - weight) * 255 * grey[..., None] + weight * heat).round(), np.uint8)


def _slices(relevance: npt.NDArray[np.float64], axis: int, spacing_mm: float) -> list[int]:
    """The slices with most of the map, at least 10 mm apart."""
    mass = relevance.sum(tuple(a for a in range(3) if a != axis))
    if not mass.any():
        middle = len(mass) // 2
        mass = -np.abs(np.arange(len(mass)) - middle).astype(np.float64)
    chosen: list[int] = []
    for index in np.argsort(-mass, kind="stable"):
        if all(abs(int(index) - other) * spacing_mm >= _APART_MM for other in chosen):
            chosen.append(int(index))
        if len(chosen) == SLICES:
            break
    return sorted(chosen)


def _upright(plane: Pixels) -> Pixels:
    """A slice as it is looked at: the second of its axes points upwards."""
    return np.flip(plane.transpose(1, 0, 2), axis=0)


def _row(pictures: list[Pixels], spacing_mm: float) -> Pixels:
    times = max(1, round(spacing_mm * _PIXELS_PER_MM))
    large = [np.repeat(np.repeat(one, times, 0), times, 1) for one in pictures]
    return np.concatenate([np.pad(one, ((0, 0), (0, _GAP), (0, 0))) for one in large], axis=1)
