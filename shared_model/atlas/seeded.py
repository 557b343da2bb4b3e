"""The default atlas: regions grown from a table of coordinates inside the MNI152 tissue maps.

``d_r(x) = min_j |x - s_rj| / rho_rj`` over the spheres j of region r; a voxel takes the region of
least ``d_r`` among those whose tissue gate it passes and whose reach it is within. The template is
exactly left/right symmetric, so one hemisphere is computed and mirrored.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_fill_holes, distance_transform_edt

from shared_model.atlas.atlas import Atlas
from shared_model.atlas.cache import load_arrays, store_arrays
from shared_model.atlas.region_graph import region_adjacency
from shared_model.atlas.tissue import TissueMaps, load_tissue_maps, tissue_files_sha256
from shared_model.grid import ModelGrid

NAME = "smrfed-seeded"
# Part of the cache key: raise it with any change of the rules below.
_RULES = 1
_GRID = ModelGrid(spacing_mm=2.0)
_BRAIN_GREY = 20


@dataclass(frozen=True)
class Gate:
    """How far, in units of the sphere radius, a region of this tissue reaches, and its priority."""

    reach: float
    priority: float


GATES = {
    "cortex": Gate(reach=4.0, priority=1.0),
    "small cortex": Gate(reach=1.8, priority=1.0),
    "deep": Gate(reach=1.35, priority=0.85),
    "ventricle": Gate(reach=1.8, priority=1.0),
    "stem": Gate(reach=1.25, priority=0.85),
    "cerebellum": Gate(reach=2.5, priority=1.0),
}


@dataclass(frozen=True)
class Seed:
    """One sphere of one region: MNI mm, right hemisphere or midline."""

    region: str
    midline: bool
    gate: str
    centre: tuple[float, float, float]
    radius_mm: float
    source: str


def read_seeds() -> tuple[Seed, ...]:
    """The packaged table ``seeds.tsv``, in its order."""
    text = (files("shared_model.atlas") / "seeds.tsv").read_text("utf-8")
    return tuple(
        Seed(
            region=row["region"],
            midline=row["hemisphere"] == "midline",
            gate=row["gate"],
            centre=(float(row["x"]), float(row["y"]), float(row["z"])),
            radius_mm=float(row["radius_mm"]),
            source=row["source"],
        )
        for row in csv.DictReader(text.splitlines(), delimiter="\t")
    )


def seeded_recipe() -> str:
    """Digest of everything that :func:`seeded_atlas` is grown from, without growing it."""
    parts = f"{_RULES}|{tissue_files_sha256()}|{GATES}|{read_seeds()}"
    return hashlib.sha256(parts.encode()).hexdigest()


@lru_cache(maxsize=1)
def seeded_atlas() -> Atlas:
    """The default atlas at 2 mm on the model's field of view: 56 pairs and 4 midline regions.

    Built in about a second from the installed nilearn, then kept in the user's cache under a digest
    of the recipe. The bytes are the same on every machine.
    """
    maps = load_tissue_maps()
    seeds = read_seeds()
    recipe = hashlib.sha256(f"{_RULES}|{maps.sha256}|{GATES}|{seeds}".encode()).hexdigest()
    file_name = f"atlas-{recipe[:32]}.npz"
    names, homologs = node_order(seeds)
    stored = load_arrays(file_name)
    if stored is not None and {"labels", "adjacency", "sha256"} <= stored.keys():
        kept = Atlas(NAME, stored["labels"], _GRID.affine, names, homologs, stored["adjacency"])
        if kept.sha256 == str(stored["sha256"]):
            return kept
    labels = grow(seeds, maps)
    adjacency = region_adjacency(labels, _GRID.affine, homologs)
    atlas = Atlas(NAME, labels, _GRID.affine, names, homologs, adjacency)
    store_arrays(
        file_name,
        {"labels": labels, "adjacency": adjacency, "sha256": np.asarray(atlas.sha256)},
    )
    return atlas


def node_order(seeds: Sequence[Seed]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names (``hippocampus_left``) and homologs: pairs in table order, left first, then midline."""
    names: list[str] = []
    homologs: list[int] = []
    for region, midline in dict.fromkeys((seed.region, seed.midline) for seed in seeds):
        if midline:
            names.append(region)
            homologs.append(-1)
        else:
            left = len(names)
            names += [f"{region}_left", f"{region}_right"]
            homologs += [left + 1, left]
    return tuple(names), tuple(homologs)


def grow(seeds: Sequence[Seed], maps: TissueMaps) -> npt.NDArray[np.int16]:
    """Labels ``(88, 104, 88)`` int16 on the 2 mm model grid."""
    half = _GRID.shape[0] // 2
    allowed = {gate: mask[half:] for gate, mask in tissue_gates(maps).items()}
    names, _ = node_order(seeds)
    node = {name: index for index, name in enumerate(names)}
    shape = (half, *_GRID.shape[1:])
    best = np.full(shape, np.inf)
    right = np.zeros(shape, dtype=np.int16)
    left = np.zeros(shape, dtype=np.int16)
    axes = [
        _GRID.affine[axis, 3] + _GRID.spacing_mm * np.arange(_GRID.shape[axis]) for axis in range(3)
    ]
    axes[0] = axes[0][half:]
    for region, midline in dict.fromkeys((seed.region, seed.midline) for seed in seeds):
        spheres = [seed for seed in seeds if seed.region == region]
        gate = GATES[spheres[0].gate]
        voxels = np.nonzero(allowed[spheres[0].gate])
        points = [axis[index] for axis, index in zip(axes, voxels, strict=True)]
        distance = np.full(len(points[0]), np.inf)
        for sphere in spheres:
            squared = sum((p - c) ** 2 for p, c in zip(points, sphere.centre, strict=True))
            distance = np.minimum(distance, np.sqrt(squared) / sphere.radius_mm)
        # Rounded before the comparison: ties fall to the earlier row on every machine.
        ranked = np.round(np.where(distance < gate.reach, distance * gate.priority, np.inf), 6)
        wins = ranked < best[voxels]
        chosen = tuple(index[wins] for index in voxels)
        best[chosen] = ranked[wins]
        right[chosen] = node[region if midline else f"{region}_right"] + 1
        left[chosen] = node[region if midline else f"{region}_left"] + 1
    return np.concatenate([left[::-1], right], axis=0)


def tissue_gates(maps: TissueMaps) -> dict[str, npt.NDArray[np.bool_]]:
    """Per gate the voxels ``(88, 104, 88)`` of the 2 mm model grid that a region may take."""
    t1 = _at_two_mm(maps.t1, maps.affine)
    gm = _at_two_mm(maps.gm, maps.affine) / 255.0
    wm = _at_two_mm(maps.wm, maps.affine) / 255.0
    brain = binary_fill_holes(t1 > _BRAIN_GREY)
    depth_mm = distance_transform_edt(brain) * _GRID.spacing_mm
    cortex = (gm > 0.35) & (t1 > 95)
    return {
        "cortex": cortex,
        "small cortex": cortex,
        "deep": (t1 > 110) & (gm > 0.12),
        "ventricle": brain & (t1 < 140) & (wm < 0.3) & (depth_mm >= 10),
        "stem": t1 > 110,
        "cerebellum": t1 > 110,
    }


def _at_two_mm(
    volume: npt.NDArray[np.uint8], affine: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Average ``[1 2 1] / 4`` along each axis around each voxel centre of the 2 mm grid.

    Both grids have their centres at whole mm, so this is exact integer arithmetic.
    """
    image = volume.astype(np.int64)
    for axis in range(3):
        start = round(float(_GRID.affine[axis, 3] - affine[axis, 3]))
        centres = start + 2 * np.arange(_GRID.shape[axis])
        total = np.zeros(
            [len(centres) if a == axis else side for a, side in enumerate(image.shape)],
            dtype=np.int64,
        )
        for shift, weight in ((-1, 1), (0, 2), (1, 1)):
            index = centres + shift
            inside = (index >= 0) & (index < image.shape[axis])
            part = np.take(image, np.where(inside, index, 0), axis=axis)
            outside = [slice(None)] * 3
            outside[axis] = np.flatnonzero(~inside)  # type: ignore[call-overload]
            part[tuple(outside)] = 0
            total += weight * part
        image = total
    return image / 64.0
