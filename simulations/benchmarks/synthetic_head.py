"""Heads whose brain is known: rendered from a label map, or a real brain inside a rendered head.

The label map is one of SynthSeg's (Billot et al. 2023): FreeSurfer's numbers below 500, tissue
outside the brain above. Not part of the repository; its path is an argument.
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform, binary_closing, binary_fill_holes, gaussian_filter

from client.prepared.resample import to_ras
from client.preprocessing.affine_search import AffineSearch
from client.preprocessing.image import Image, Mask, Volume

_FLUID = (4, 5, 14, 15, 24, 43, 44)
_WHITE = (2, 7, 16, 28, 41, 46, 60, 85)
_FLUID_AROUND = 24
#: Labels from here on are outside the skull's inner side.
OUTSIDE = 500
# T1-like greys, white matter 1. Beyond the brain: what is in no list is soft tissue.
_GREY, _DARK, _SOFT = 0.68, 0.22, 0.75
_BONE = (511, 515)
_BONE_GREY = 0.12
_NOISE, _BIAS = 0.03, 0.15


def read_labels(path: Path) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float64]]:
    """``(I, J, K)`` labels in RAS+ and their affine."""
    image = nibabel.load(str(path))
    labels, affine = to_ras(np.asarray(image.dataobj, dtype=np.float32), image.affine)
    return labels.astype(np.int16), affine


def brain_of(labels: npt.NDArray[np.int16]) -> Mask:
    """Grey and white matter and ventricles, with the fluid in narrow sulci, without holes."""
    tissue = (labels > 0) & (labels < OUTSIDE) & (labels != _FLUID_AROUND)
    padded = np.pad(tissue, 8)
    closed = binary_closing(padded, iterations=3)[8:-8, 8:-8, 8:-8]
    mask: Mask = binary_fill_holes(closed)
    return mask


def rendered(labels: npt.NDArray[np.int16], seed: int) -> Volume:
    """A T1-like head: greys per tissue, partial volume, a bias field, Rician noise."""
    rng = np.random.default_rng(seed)
    greys = np.zeros(labels.shape, dtype=np.float32)
    greys[labels > 0] = _GREY
    greys[np.isin(labels, _FLUID)] = _DARK
    greys[np.isin(labels, _WHITE)] = 1
    greys[labels >= OUTSIDE] = _SOFT
    greys[np.isin(labels, _BONE)] = _BONE_GREY
    greys = gaussian_filter(greys, 0.5)
    coarse = gaussian_filter(rng.standard_normal(tuple(s // 8 for s in labels.shape)), 6)
    field = affine_transform(
        coarse / np.abs(coarse).max() * _BIAS, np.full(3, 1 / 8), output_shape=labels.shape, order=1
    )
    real, imaginary = (rng.normal(0, _NOISE, labels.shape).astype(np.float32) for _ in range(2))
    head: Volume = np.hypot(greys * np.exp(field, dtype=np.float32) + real, imaginary) * 1000
    return head.astype(np.float32, copy=False)


def embedded(image: Image, brain: Mask, labels_path: Path, seed: int) -> Image:
    """A real, stripped brain in place of the label map's, on the real brain's voxels.

    The map's head is fitted to the brain by an affine; where its brain was and the real one is not,
    there is fluid. The real mask stays the truth for a brain with a skull around it.
    """
    labels, affine = read_labels(labels_path)
    head = rendered(labels, seed)
    hull = (labels > 0) & (labels < OUTSIDE)
    found = AffineSearch(head, brain_of(labels), affine)
    real = AffineSearch(image.voxels, brain, image.affine)
    levels = (8.0, 4.0)
    to_real = np.linalg.inv(real.best(levels)) @ found.best(levels)
    # Room for the head around a tightly cropped brain.
    margin = np.ceil(40 / np.array(image.spacing_mm)).astype(int)
    pad = [(int(m), int(m)) for m in margin]
    voxels, mask = np.pad(image.voxels, pad), np.pad(brain, pad)
    moved = image.affine.copy()
    moved[:3, 3] -= image.affine[:3, :3] @ margin
    matrix = np.linalg.inv(to_real @ affine) @ moved
    shape = voxels.shape
    around = affine_transform(head, matrix[:3, :3], matrix[:3, 3], output_shape=shape, order=1)
    inside = affine_transform(
        hull.astype(np.float32), matrix[:3, :3], matrix[:3, 3], output_shape=shape, order=1
    )
    around = np.where(inside > 0.5, np.float32(_DARK * 1000), around)
    bright = float(np.percentile(voxels[mask], 95))
    whole = np.where(mask, voxels / np.float32(bright / 1000), around).astype(np.float32)
    return Image(whole, moved)
