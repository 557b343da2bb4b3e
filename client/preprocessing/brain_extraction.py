"""Which voxels are brain: deepbet's networks, or the scan itself where it is stripped already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version as version_of
from typing import Any, ClassVar

import numpy as np

from client.archive.problems import Defect, Problem
from client.preprocessing.image import Image, Mask, Volume, Work
from shared_model.preparation import Preparation

#: Brains outside these limits are no brains, or not whole ones; a newborn has about 350 ml.
SMALLEST_ML = 500.0
LARGEST_ML = 2400.0
# A constant background fills at least this share of a stripped scan.
_BACKGROUND_SHARE = 0.4
# Greys this near to the background, in parts of the bright tissue, belong to it.
_NEAR = 0.005
# A stripped scan and the brain found in it overlap at least so much; a head, about 0.55.
_SAME = 0.88


@dataclass(frozen=True)
class ExtractBrain:
    """Find the brain with deepbet 1.0 (Fisch et al. 2024), unless the scan is stripped already.

    The mask is one connected piece without holes, ventricles included. A scan whose constant
    background leaves a foreground of a brain's volume, and in which deepbet finds the same brain,
    was stripped before: its foreground is the mask, so that nobody's mask is eroded twice.

    Args:
        strip: recorded here and used when the scan is resampled; the mask is found either way.
    """

    strip: bool = True

    name: ClassVar[str] = "brain_extraction"
    version: ClassVar[int] = 1

    @classmethod
    def of(cls, preparation: Preparation) -> ExtractBrain:
        """The step that a plan asks for."""
        return cls(strip=preparation.brain_extraction.strip)

    def parameters(self) -> Mapping[str, Any]:
        """deepbet's version, limits in ml; ``strip`` is a parameter of resampling."""
        return {
            "deepbet": version_of("deepbet"),
            "smallest_ml": SMALLEST_ML,
            "largest_ml": LARGEST_ML,
        }

    def __call__(self, work: Work) -> Work:
        """Fill in ``brain``. Raises a Defect, SMR-E243, for no brain or an impossible volume."""
        image = work.image
        voxel_ml = float(abs(np.linalg.det(image.affine[:3, :3]))) / 1000
        found = deepbet_mask(image)
        foreground = stripped_foreground(image.voxels, voxel_ml)
        stripped = foreground is not None and (not found.any() or _dice(found, foreground) >= _SAME)
        brain = foreground if stripped and foreground is not None else found
        brain_ml = float(brain.sum()) * voxel_ml
        if not SMALLEST_ML <= brain_ml <= LARGEST_ML:
            raise Defect(Problem.NO_BRAIN, f"{brain_ml:.0f} ml of brain")
        findings = {
            "already_stripped": stripped,
            "brain_ml": round(brain_ml, 1),
            "mask_touches_edge": round(edge_share(brain), 5),
            "deepbet_overlap": None if foreground is None else round(_dice(found, foreground), 4),
        }
        return replace(work, brain=brain, findings={**work.findings, **findings})


def deepbet_mask(image: Image) -> Mask:
    """deepbet's brain ``(I, J, K)`` of a RAS+ scan; nothing True where it finds none.

    On the GPU where there is one; the two devices may differ in single voxels of the edge.
    """
    import torch

    bet = _deepbet(torch.cuda.is_available())
    try:
        mask: Mask = bet.postprocess(bet.run_model(image.voxels.copy()) > 0.5).astype(bool)
    except (AssertionError, ValueError):
        # What deepbet raises where its first network sees no brain at all.
        return np.zeros(image.voxels.shape, dtype=bool)
    return mask


@lru_cache(maxsize=2)
def _deepbet(gpu: bool) -> Any:
    # Not deepbet's command or its window: those need a display; these two networks do not.
    from deepbet.bet import BrainExtraction

    return BrainExtraction(no_gpu=not gpu)


def stripped_foreground(voxels: Volume, voxel_ml: float) -> Mask | None:
    """What is not the constant background, if that could be a brain: largest piece, holes filled.

    None where no grey is constant over much of the scan, or the rest is too large or too small.
    """
    from scipy.ndimage import binary_fill_holes, label

    sample = voxels[::2, ::2, ::2]
    values, counts = np.unique(sample, return_counts=True)
    level = float(values[counts.argmax()])
    bright = float(np.percentile(np.abs(sample - level), 99.5))
    if np.mean(np.abs(sample - level) <= _NEAR * bright) < _BACKGROUND_SHARE:
        return None
    pieces, _ = label(np.abs(voxels - level) > _NEAR * bright)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    if not sizes.any() or not SMALLEST_ML <= sizes.max() * voxel_ml <= LARGEST_ML:
        return None
    filled: Mask = binary_fill_holes(pieces == sizes.argmax())
    return filled


def edge_share(mask: Mask) -> float:
    """Share of the mask's voxels that lie on the outermost layer of the scan: cut-off brain."""
    inner = mask[1:-1, 1:-1, 1:-1].sum()
    return float(1 - inner / max(int(mask.sum()), 1))


def _dice(one: Mask, other: Mask) -> float:
    return float(2 * (one & other).sum() / max(int(one.sum()) + int(other.sum()), 1))
