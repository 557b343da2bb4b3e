"""Relevance where no disease can be: outside the brain, and along the edge of its mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion

from shared_model.explanation.relevance import Map, Mask

#: How near to the edge counts as the edge, voxels.
EDGE_VOXELS = 3


@dataclass(frozen=True)
class EdgeShares:
    """Shares of a map's sum: outside the brain, and inside it within three voxels of the edge.

    ``edge_chance`` is the share of the brain's voxels that lie so near to its edge.
    """

    outside: float
    edge: float
    edge_chance: float


def edge_shares(voxels: Map, brain: Mask, depth: int = EDGE_VOXELS) -> EdgeShares:
    """Measure a map ``(D, H, W)`` against the scan's own brain mask; ``depth`` in voxels."""
    values = np.asarray(voxels, dtype=np.float64)
    total = max(float(values.sum()), 1e-300)
    rim = brain & ~binary_erosion(brain, iterations=depth)
    return EdgeShares(
        outside=float(values[~brain].sum() / total),
        edge=float(values[rim].sum() / total),
        edge_chance=float(rim.sum() / max(1, int(brain.sum()))),
    )
