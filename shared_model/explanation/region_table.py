"""The atlas's regions under a relevance map, as AXIAL reports them (Lozupone et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shared_model.atlas.atlas import Atlas
from shared_model.explanation.measures import TOP_PERCENTILE
from shared_model.explanation.relevance import Relevance

Side = Literal["left", "right", "midline"]


@dataclass(frozen=True)
class RegionRow:
    """One region under a map.

    Attributes:
        index: of the region in the atlas, from 0; ``name`` its name.
        side: of the patient.
        pair: the region on the other side, if it has one.
        rank: 1 for the largest mean.
        overlap_ml: V_r, how much of it lies at the map's 99.9 percentile or above.
        covered: P_r, the share of the region that this is.
        mean, std, max, min: of the map in the region.
        share: of the whole map that lies in it.
        contribution: signed, in logits of the class contrast, where the method gives one.
        asymmetry: ``(own - other) / (own + other)`` of the two sides' means; none at the midline.
    """

    index: int
    name: str
    side: Side
    pair: str | None
    rank: int
    overlap_ml: float
    covered: float
    mean: float
    std: float
    max: float
    min: float
    share: float
    contribution: float | None
    asymmetry: float | None


def region_table(relevance: Relevance, atlas: Atlas) -> tuple[RegionRow, ...]:
    """All R regions, the highest mean first, the last ones too: they are the counter-evidence.

    ``atlas`` lies on the map's grid; regions of equal mean keep the atlas's order.
    """
    labels, voxels = atlas.labels, np.asarray(relevance.voxels, dtype=np.float64)
    brain = labels > 0
    strong = brain & (voxels >= np.percentile(voxels[brain], TOP_PERCENTILE)) & (voxels > 0)
    inside = [voxels[labels == number] for number in range(1, atlas.region_count + 1)]
    above = np.bincount(labels[strong], minlength=atlas.region_count + 1)[1:]
    means = np.asarray([values.mean() for values in inside])
    total = max(float(voxels[brain].sum()), 1e-300)
    order = np.argsort(-means, kind="stable")
    return tuple(
        RegionRow(
            index=int(i),
            name=atlas.names[i],
            side=side_of(atlas.names[i]),
            pair=atlas.names[atlas.homologs[i]] if atlas.homologs[i] >= 0 else None,
            rank=rank,
            overlap_ml=float(above[i] * atlas.voxel_ml),
            covered=float(above[i] / len(inside[i])),
            mean=float(means[i]),
            std=float(inside[i].std()),
            max=float(inside[i].max()),
            min=float(inside[i].min()),
            share=float(inside[i].sum() / total),
            contribution=None if relevance.regions is None else float(relevance.regions[i]),
            asymmetry=_asymmetry(means, i, atlas.homologs[i]),
        )
        for rank, i in enumerate(order, start=1)
    )


def side_of(name: str) -> Side:
    """Left or right where the region's name ends so."""
    if name.endswith("_left"):
        return "left"
    return "right" if name.endswith("_right") else "midline"


def _asymmetry(means: np.ndarray, own: int, other: int) -> float | None:
    if other < 0:
        return None
    total = float(means[own] + means[other])
    return float((means[own] - means[other]) / total) if total > 0 else 0.0
