"""Whether the planes of a series make one whole volume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from client.intake.header import Slice
from client.intake.series import SeriesFile

#: Cosines of directions that count as the same; a localizer's planes differ by far more.
_SAME_DIRECTION = 0.02
#: Of the distance between slices: rounding in headers stays below, missing slices are above.
_UNEVEN = 0.1


@dataclass(frozen=True)
class Stack:
    """The largest set of parallel planes of a series.

    Attributes:
        files: that they come from, in the order of their paths.
        slices: number of different positions.
        spacing_mm: between slices, then between rows and columns.
        extent_mm: of the volume, in the same order.
        thickness_mm: of a slice, where the header says so.
        volumes: planes per position, after one echo, kind and acquisition has been chosen.
        missing: positions in between that no plane has.
        uneven: whether distances differ otherwise.
        directions: how many sets of parallel planes the series has.
        chosen: what was chosen among several volumes, in words.
        image_type: of its images.
    """

    files: tuple[SeriesFile, ...]
    slices: int
    spacing_mm: tuple[float, float, float]
    extent_mm: tuple[float, float, float]
    thickness_mm: float | None
    volumes: int
    missing: int
    uneven: bool
    directions: int
    chosen: tuple[str, ...]
    image_type: tuple[str, ...]


_Plane = tuple[SeriesFile, Slice]


def stack(files: Iterable[SeriesFile]) -> Stack | None:
    """The volume of a series; None where no plane says where it lies."""
    planes = [
        (file, plane)
        for file in files
        if not file.cut_short
        for plane in file.slices
        if plane.position and plane.orientation and plane.spacing and min(plane.spacing) > 0
    ]
    if not planes:
        return None
    groups = _parallel(planes)
    largest = max(groups, key=len)
    normal = _normal(largest[0][1])
    largest, chosen = _one_volume(largest, normal)
    positions = np.array(sorted({_along(normal, plane) for _, plane in largest}))
    gaps = np.diff(positions)
    gap = float(np.median(gaps)) if len(gaps) else 0.0
    steps = np.rint(gaps / gap).astype(int) if gap > 0 else np.ones(len(gaps), int)
    # A gap of three distances means that two planes are missing.
    uneven = gap > 0 and bool((np.abs(gaps - np.maximum(steps, 1) * gap) > _UNEVEN * gap).any())
    first = largest[0][1]
    used = {id(file): file for file, _ in largest}
    spacing = (gap, *first.spacing)
    return Stack(
        files=tuple(sorted(used.values(), key=lambda file: file.path)),
        slices=len(positions),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        extent_mm=(
            gap * len(positions),
            first.spacing[0] * first.rows,
            first.spacing[1] * first.columns,
        ),
        thickness_mm=first.thickness,
        volumes=round(len(largest) / len(positions)),
        missing=int((np.maximum(steps, 1) - 1).sum()),
        uneven=uneven,
        directions=len(groups),
        chosen=chosen,
        image_type=first.image_type,
    )


def _parallel(planes: list[_Plane]) -> list[list[_Plane]]:
    """Planes of the same direction, size and spacing."""
    groups: list[tuple[tuple[float, ...], np.ndarray, list[_Plane]]] = []
    for item in planes:
        plane = item[1]
        shape = (plane.rows, plane.columns, *(round(size, 3) for size in plane.spacing))
        direction = np.array(plane.orientation)
        for known_shape, known, members in groups:
            if shape == known_shape and np.abs(direction - known).max() < _SAME_DIRECTION:
                members.append(item)
                break
        else:
            groups.append((shape, direction, [item]))
    return [members for _, _, members in groups]


def _one_volume(planes: list[_Plane], normal: np.ndarray) -> tuple[list[_Plane], tuple[str, ...]]:
    """One echo, one kind of image and one acquisition, where there are several of each place."""
    chosen = []
    choices: tuple[tuple[str, Callable[[Slice], Hashable], Callable[[Any], Any]], ...] = (
        ("the first echo", lambda plane: plane.echo_time, lambda echo: echo or 0.0),
        ("the magnitude images", lambda plane: plane.image_type, _kind),
        ("the first acquisition", lambda plane: plane.acquisition, lambda number: number),
    )
    for name, key, order in choices:
        places = len({_along(normal, plane) for _, plane in planes})
        if len(planes) == places:
            break
        parts: defaultdict[Hashable, list[_Plane]] = defaultdict(list)
        for item in planes:
            parts[key(item[1])].append(item)
        whole = {
            value: part
            for value, part in parts.items()
            if len({_along(normal, plane) for _, plane in part}) == places
        }
        if len(parts) > 1 and whole:
            best = min(whole, key=order)
            planes = whole[best]
            chosen.append(f"{name} of {len(parts)}")
    return planes, tuple(chosen)


def _kind(image_type: tuple[str, ...]) -> tuple[bool, bool, tuple[str, ...]]:
    """Original before derived, magnitude before phase."""
    return "ORIGINAL" not in image_type, "P" in image_type or "PHASE" in image_type, image_type


def _normal(plane: Slice) -> np.ndarray:
    return np.cross(plane.orientation[:3], plane.orientation[3:])


def _along(normal: np.ndarray, plane: Slice) -> float:
    """Where a plane lies along the normal, mm; to 0.01 mm, so that rounded headers agree."""
    return round(float(np.dot(normal, plane.position)), 2)
