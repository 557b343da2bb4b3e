"""Ellipsoids put into a clean synthetic brain, before its scanner."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt
from scipy.spatial.transform import Rotation

from simulations.cohort.template import Image
from simulations.lesions.kinds import LesionKind

Numbers = npt.NDArray[np.int16]

_INSIDE = 0.97  # share of an ellipsoid that must lie in the brain
_RIM_MM = 0.7  # the grey changes over about so much at the border, as partial volume does
_TRIES = 200


def plant_lesions(
    clean: Image,
    brain: npt.NDArray[np.bool_],
    affine: npt.NDArray[np.float64],
    kind: LesionKind,
    rng: np.random.Generator,
) -> tuple[Image, Numbers]:
    """A brain with lesions, and their numbers.

    Args:
        clean: ``(X, Y, Z)`` canonical greys, RAS+.
        brain: ``(X, Y, Z)`` brain with CSF.
        affine: ``(4, 4)`` voxel to mm.
        kind: what they look like.
        rng: decides place, axes and grey.

    Returns:
        Greys, and ``(X, Y, Z)`` numbers 1..n. Fewer than drawn where there is no more room.
    """
    image, numbers = clean.copy(), np.zeros(clean.shape, np.int16)
    if rng.random() < kind.without:
        return image, numbers
    wanted = int(rng.integers(kind.count[0], kind.count[1] + 1))
    voxel_mm = np.linalg.norm(affine[:3, :3], axis=0)
    indices = np.argwhere((clean > kind.tissue) & brain)
    for _ in range(_TRIES):
        if numbers.max() == wanted:
            break
        axes = rng.uniform(*kind.semi_axes_mm, 3)
        centre = indices[rng.integers(len(indices))]
        low, high = kind.greys[int(rng.integers(len(kind.greys)))]
        grey, turn = float(rng.uniform(low, high)), Rotation.random(random_state=rng)
        box, radius = _radius(clean.shape, centre, affine, axes, turn.as_matrix())
        inside = radius <= 1
        if not inside.any() or brain[box][inside].mean() < _INSIDE:
            continue
        if _too_near(numbers, box, inside, voxel_mm, kind.gap_mm):
            continue
        share = 1 / (1 + np.exp((radius - 1) * axes.mean() / _RIM_MM * 2))
        share *= brain[box]
        image[box] = image[box] * (1 - share) + grey * share
        numbers[box][inside & brain[box]] = numbers.max() + 1
    return image, numbers


def _radius(
    shape: tuple[int, ...],
    centre: npt.NDArray[np.intp],
    affine: npt.NDArray[np.float64],
    axes: npt.NDArray[np.float64],
    turn: npt.NDArray[np.float64],
) -> tuple[tuple[slice, ...], npt.NDArray[np.float64]]:
    """A box around an ellipsoid, and where its voxels lie: below 1 inside."""
    step = affine[:3, :3]
    reach = np.ceil(1.3 * axes.max() / np.linalg.norm(step, axis=0)).astype(int) + 1
    box = tuple(
        slice(max(0, c - r), min(side, c + r + 1))
        for c, r, side in zip(centre, reach, shape, strict=True)
    )
    grid = np.stack(np.meshgrid(*[np.arange(s.start, s.stop) for s in box], indexing="ij"), -1)
    offset = (grid - centre) @ step.T
    return box, np.linalg.norm((offset @ turn) / axes, axis=-1)


def _too_near(
    numbers: Numbers,
    box: tuple[slice, ...],
    inside: npt.NDArray[np.bool_],
    voxel_mm: npt.NDArray[np.float64],
    gap_mm: float,
) -> bool:
    if not numbers.any():
        return False
    margin = np.ceil(gap_mm / voxel_mm).astype(int)
    wide = tuple(
        slice(max(0, s.start - m), min(side, s.stop + m))
        for s, m, side in zip(box, margin, numbers.shape, strict=True)
    )
    own = np.zeros([s.stop - s.start for s in wide], dtype=bool)
    own[
        tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(box, wide, strict=True))
    ] = inside
    distance = distance_transform_edt(~own, sampling=voxel_mm)
    return bool((distance[numbers[wide] > 0] < gap_mm).any())
