"""The anatomical graph: regions that touch, and mirror images of each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

# Faces at the spacing of the labels; below it a contact is an accident of the voxel grid.
MINIMAL_FACES = 6
FALLBACK_NEIGHBOURS = 3


def shared_faces(labels: npt.NDArray[np.int16], region_count: int) -> npt.NDArray[np.int64]:
    """``(R, R)`` symmetric count of voxel faces between each two regions, zero diagonal."""
    side = region_count + 1
    counts = np.zeros(side * side, dtype=np.int64)
    values = labels.astype(np.int64)
    for axis in range(3):
        low = np.moveaxis(values, axis, 0)[:-1].ravel()
        high = np.moveaxis(values, axis, 0)[1:].ravel()
        touching = (low != high) & (low > 0) & (high > 0)
        counts += np.bincount(low[touching] * side + high[touching], minlength=side * side)
    one_way = counts.reshape(side, side)[1:, 1:]
    return one_way + one_way.T


def region_adjacency(
    labels: npt.NDArray[np.int16],
    affine: npt.NDArray[np.float64],
    homologs: tuple[int, ...],
) -> npt.NDArray[np.float32]:
    """Edge weights ``log(1 + faces)`` between touching and homologous regions.

    A homologous pair that does not touch gets the median face weight. Regions that touch nothing
    are tied to their nearest centroids (distance in mm), and so are components that the edges leave
    apart: the result is one connected graph.

    Args:
        labels: ``(X, Y, Z)`` with every region 1..R present.
        affine: ``(4, 4)`` voxel-to-world matrix, mm.
        homologs: R nodes, -1 for none.

    Returns:
        ``(R, R)`` float32, symmetric, non-negative, zero diagonal.
    """
    count = len(homologs)
    faces = shared_faces(labels, count)
    weights = np.where(faces >= MINIMAL_FACES, np.log1p(faces), 0.0)
    typical = float(np.median(weights[weights > 0])) if (weights > 0).any() else 1.0
    for node, homolog in enumerate(homologs):
        if homolog >= 0 and weights[node, homolog] == 0:
            weights[node, homolog] = weights[homolog, node] = typical
    distances = cdist(*(2 * [_centroids(labels, affine, count)]))
    np.fill_diagonal(distances, np.inf)
    for region in np.flatnonzero(~(weights > 0).any(axis=1)):
        nearest = np.argsort(distances[region], kind="stable")[:FALLBACK_NEIGHBOURS]
        nearest = nearest[np.isfinite(distances[region, nearest])]
        weights[region, nearest] = weights[nearest, region] = typical
    _bridge_components(weights, distances, typical)
    # Rounded, so that the digest does not hang on the last bit of a platform's logarithm.
    return np.round(weights, 4).astype(np.float32)


def _centroids(
    labels: npt.NDArray[np.int16], affine: npt.NDArray[np.float64], count: int
) -> npt.NDArray[np.float64]:
    voxels = np.argwhere(labels > 0)
    region = labels[labels > 0] - 1
    size = np.maximum(np.bincount(region, minlength=count), 1)
    centres = np.stack(
        [np.bincount(region, weights=voxels[:, axis], minlength=count) / size for axis in range(3)],
        axis=1,
    )
    # To a thousandth of a mm: a tie must not be broken by rounding error.
    return np.round(centres @ affine[:3, :3].T + affine[:3, 3], 3)


def _bridge_components(
    weights: npt.NDArray[np.float64], distances: npt.NDArray[np.float64], typical: float
) -> None:
    """Join components by their closest pair of regions until one is left, in place."""
    while True:
        components, member = connected_components(weights > 0, directed=False)
        if components == 1:
            return
        inside = member == member[0]
        gaps = np.where(inside[:, None] & ~inside[None, :], distances, np.inf)
        region, other = np.unravel_index(int(np.argmin(gaps)), gaps.shape)
        weights[region, other] = weights[other, region] = typical
