"""What every synthetic brain is a deformation of: the MNI152 average with the greys of one head."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import (
    binary_dilation,
    binary_fill_holes,
    distance_transform_edt,
    gaussian_filter,
)
from scipy.sparse import csr_matrix

from shared_model.atlas.atlas import Atlas
from shared_model.atlas.cache import load_arrays, store_arrays
from shared_model.atlas.seeded import seeded_atlas
from shared_model.atlas.tissue import load_tissue_maps
from shared_model.grid import FIELD_OF_VIEW_CORNER_MM, FIELD_OF_VIEW_MM

# Canonical greys of the clean volume; a scanner's tissue curve maps them to its own.
CSF, GREY, WHITE = 0.18, 0.62, 1.0
# Part of the cache key: raise it with any change of what is computed here.
_RULES = 3
# An averaged template shows CSF at 110 of 255 and partial volume everywhere.
_GREYS = ((0, 40, 112, 172, 226, 255), (0.0, CSF * 0.9, CSF, GREY, WHITE, 1.06))
_BRAIN_GREY = 30
_RIM_MM = 2.5
_SHARPEN, _SHARPEN_SIGMA_MM = 0.5, 1.5
_MTL = ("hippocampus", "amygdala", "entorhinal_zone", "parahippocampal_zone")

FIELD_SPACING_MM = 3.0
FIELD_SHAPE = (60, 72, 60)
FIELD_ORIGIN_MM = tuple(
    corner + side / 2 - (count - 1) * FIELD_SPACING_MM / 2
    for corner, side, count in zip(
        FIELD_OF_VIEW_CORNER_MM, FIELD_OF_VIEW_MM, FIELD_SHAPE, strict=True
    )
)

Image = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Template:
    """The undeformed brain, in MNI mm.

    Attributes:
        atlas: the regions, 2 mm.
        image: ``(X, Y, Z)`` float32 canonical greys at 1 mm, 0 outside the head.
        origin_mm: ``(3,)`` MNI position of the first voxel of ``image`` (spacing 1 mm, RAS+).
        brain: ``(X, Y, Z)`` uint8 at 1 mm: 1 inside the brain with its CSF rim.
        share: sparse ``(field voxels, R)``: the part of a field voxel that a region takes.
        give: ``FIELD_SHAPE`` float32, sums to 1: the CSF that takes up what the brain loses.
        reach: ``FIELD_SHAPE`` bool: field voxels that a deformed head may reach.
        mtl: ``FIELD_SHAPE`` float32 in [0, 1]: medial temporal lobe, for the fine texture.
    """

    atlas: Atlas
    image: Image
    origin_mm: npt.NDArray[np.float64]
    brain: npt.NDArray[np.uint8]
    share: csr_matrix
    give: Image
    reach: npt.NDArray[np.bool_]
    mtl: Image


@lru_cache(maxsize=1)
def load_template() -> Template:
    """The template with the default atlas: seconds the first time, then from the user's cache."""
    atlas = seeded_atlas()
    maps = load_tissue_maps()
    recipe = f"{_RULES}|{maps.sha256}|{atlas.sha256}|{_GREYS}|{_BRAIN_GREY}|{_RIM_MM}|{_SHARPEN}"
    file_name = f"template-{hashlib.sha256(recipe.encode()).hexdigest()[:32]}.npz"
    kept = load_arrays(file_name)
    if kept is None or "origin_mm" not in kept:
        kept = _build(maps.t1, maps.gm, maps.affine[:3, 3], atlas)
        store_arrays(file_name, kept)
    share = csr_matrix(
        (kept["share_data"], kept["share_indices"], kept["share_indptr"]),
        shape=(int(np.prod(FIELD_SHAPE)), atlas.region_count),
    )
    return Template(
        atlas=atlas,
        image=kept["image"],
        origin_mm=kept["origin_mm"],
        brain=kept["brain"],
        share=share,
        give=kept["give"],
        reach=kept["reach"],
        mtl=kept["mtl"],
    )


def field_coordinates_mm() -> npt.NDArray[np.float64]:
    """``(3, *FIELD_SHAPE)`` MNI mm of the deformation grid's nodes."""
    axes = [
        origin + FIELD_SPACING_MM * np.arange(count)
        for origin, count in zip(FIELD_ORIGIN_MM, FIELD_SHAPE, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _build(
    t1: npt.NDArray[np.uint8],
    gm: npt.NDArray[np.uint8],
    origin_mm: npt.NDArray[np.float64],
    atlas: Atlas,
) -> dict[str, npt.NDArray[Any]]:
    brain = binary_fill_holes(t1 > _BRAIN_GREY)
    grey = np.interp(t1, *_GREYS).astype(np.float32)
    grey += _SHARPEN * (grey - gaussian_filter(grey, _SHARPEN_SIGMA_MM))
    grey = np.clip(grey, CSF * 0.8, 1.08)
    outside_mm = distance_transform_edt(~brain)
    head = outside_mm <= _RIM_MM
    image = np.where(brain, grey, np.where(head, CSF, 0.0)).astype(np.float32)

    # Sulcal CSF (dark, shallow, no ventricle) and the rim. Nothing outside the head: the flow then
    # leaves the intracranial volume as it is.
    depth_mm = distance_transform_edt(brain)
    sulcal = brain & (t1 < 130) & (gm < 128) & (depth_mm < 14)
    give = _on_field((sulcal | (head & ~brain)).astype(np.float32), origin_mm, 1.0)
    reach = _on_field(head.astype(np.float32), origin_mm, 1.0) > 0.01
    share = _region_share(atlas)
    mtl_regions = [i for i, name in enumerate(atlas.names) if name.startswith(_MTL)]
    mtl = np.asarray(share[:, mtl_regions].sum(axis=1)).reshape(FIELD_SHAPE)
    return {
        "image": image,
        "origin_mm": np.asarray(origin_mm, dtype=np.float64),
        "brain": head.astype(np.uint8),
        "give": (give / give.sum()).astype(np.float32),
        "reach": binary_dilation(reach, iterations=5),
        "mtl": np.clip(gaussian_filter(mtl, 0.7), 0, 1).astype(np.float32),
        "share_data": share.data,
        "share_indices": share.indices,
        "share_indptr": share.indptr,
    }


def _on_field(volume: Image, origin_mm: npt.NDArray[np.float64], spacing_mm: float) -> Image:
    """Mean of a volume over each voxel of the deformation grid."""
    total = np.zeros(FIELD_SHAPE)
    count = np.zeros(FIELD_SHAPE)
    index = [
        np.rint(
            (origin_mm[a] + spacing_mm * np.arange(volume.shape[a]) - FIELD_ORIGIN_MM[a]) / 3.0
        ).astype(int)
        for a in range(3)
    ]
    inside = [(i >= 0) & (i < n) for i, n in zip(index, FIELD_SHAPE, strict=True)]
    cells = np.ix_(*(i[k] for i, k in zip(index, inside, strict=True)))
    part = volume[np.ix_(*inside)]
    np.add.at(total, cells, part)
    np.add.at(count, cells, 1.0)
    return (total / np.maximum(count, 1)).astype(np.float32)


def _region_share(atlas: Atlas) -> csr_matrix:
    """Linear spread of every 2 mm atlas voxel over the eight field nodes around it."""
    voxels = np.argwhere(atlas.labels > 0)
    region = atlas.labels[atlas.labels > 0].astype(np.int64) - 1
    position = voxels @ atlas.affine[:3, :3].T + atlas.affine[:3, 3]
    index = (position - np.asarray(FIELD_ORIGIN_MM)) / FIELD_SPACING_MM
    base = np.floor(index).astype(np.int64)
    fraction = index - base
    unit = (2.0 / FIELD_SPACING_MM) ** 3
    rows, weights = [], []
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, fraction, 1 - fraction), axis=1) * unit
        rows.append(np.ravel_multi_index(tuple((base + corner).T), FIELD_SHAPE))
        weights.append(weight)
    return csr_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.tile(region, 8))),
        shape=(int(np.prod(FIELD_SHAPE)), atlas.region_count),
        dtype=np.float32,
    )
