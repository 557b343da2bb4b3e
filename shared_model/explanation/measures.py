"""How well a relevance map finds what is known to be there (reference: science.md, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared_model.explanation.relevance import Map, Mask

TOP_PERCENTILE = 99.9


@dataclass(frozen=True)
class Localisation:
    """Agreement of one map with a true region.

    Attributes:
        mass: share of the map's sum inside the truth.
        rank: share of the |truth| most relevant voxels that lie in it.
        pointing: whether the most relevant voxel lies in it; for ties the share of them.
        auprc: area under precision and recall of the voxels.
        iou: intersection over union of the truth and the voxels at the 99.9 percentile or above.
        chance: share of the brain that the truth is: what mass, rank, pointing and AUPRC of a map
            without information are expected to be.
    """

    mass: float
    rank: float
    pointing: float
    auprc: float
    iou: float
    chance: float

    @property
    def mass_over_chance(self) -> float:
        """How many times chance the mass is."""
        return self.mass / self.chance


def localise(voxels: Map, truth: Mask, brain: Mask) -> Localisation:
    """Measure a non-negative map inside the brain; truth must be a part of the brain, not all.

    A map that is zero everywhere says nothing: it is measured as a constant one. Ties are broken by
    expectation, so that maps that are constant over regions are measured fairly.
    Raises ValueError for shapes that differ, a truth that is empty or leaves the brain, and a map
    that is negative or not finite.
    """
    if not voxels.shape == truth.shape == brain.shape:
        raise ValueError(f"shapes {voxels.shape}, {truth.shape} and {brain.shape} differ")
    inside = np.asarray(voxels, dtype=np.float64)[brain]
    true = truth[brain]
    if not true.any() or true.all() or (truth & ~brain).any():
        raise ValueError("the truth must be a part of the brain")
    if not np.isfinite(inside).all() or (inside < 0).any():
        raise ValueError("a relevance map must be finite and at least zero")
    if not inside.any():
        inside = np.ones_like(inside)
    top = inside == inside.max()
    strong = inside >= np.percentile(inside, TOP_PERCENTILE)
    return Localisation(
        mass=float(inside[true].sum() / inside.sum()),
        rank=_top_share(inside, true, int(true.sum())),
        pointing=float(true[top].mean()),
        auprc=_average_precision(inside, true),
        iou=float((strong & true).sum() / (strong | true).sum()),
        chance=float(true.mean()),
    )


def _top_share(values: np.ndarray, true: np.ndarray, count: int) -> float:
    """Expected share of true ones among the ``count`` largest, ties broken at random."""
    cut = np.partition(values, len(values) - count)[len(values) - count]
    above, level = values > cut, values == cut
    left = count - int(above.sum())
    return float((true[above].sum() + left * true[level].mean()) / count)


def _average_precision(values: np.ndarray, true: np.ndarray) -> float:
    """Sum over distinct thresholds of precision times the gain in recall."""
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], np.cumsum(true[order])
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    gain = np.diff(np.concatenate([[0], hits[last]])) / hits[-1]
    return float((hits[last] / (last + 1) * gain).sum())
