"""Travelling phantoms: how far a site moves an embedding, against how far subjects are apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def phantom_distance(embedding: npt.ArrayLike) -> float:
    """Mean distance of one subject between sites, over that of two subjects at one site.

    ``embedding`` ``(V, A, E)``: V subjects, each scanned at the same A sites. The numerator is the
    mean of ``||z(T_a x) - z(T_b x)||`` over subjects and pairs of sites, the denominator the mean
    of ``||z(T_a x) - z(T_a x')||`` over sites and pairs of subjects. 0: the site leaves no trace;
    1: it moves a subject as far as another subject is. NaN below two subjects or two sites, or
    where all subjects coincide. Blind to the disease: an embedding that spreads subjects by
    something useless scores well, so read it beside the balanced accuracy.
    """
    z = np.asarray(embedding, dtype=np.float64)
    if z.ndim != 3:
        raise ValueError(f"embeddings of phantoms are (V, A, E), not {z.shape}")
    if z.shape[0] < 2 or z.shape[1] < 2:
        return float("nan")
    between_sites = _mean_distance(z)
    between_subjects = _mean_distance(z.transpose(1, 0, 2))
    if not between_subjects > 0:
        return float("nan")
    return between_sites / between_subjects


def retest_distance(embedding: npt.ArrayLike, again: npt.ArrayLike) -> float:
    """Mean distance of two scans of one subject at one site, over that of two subjects there.

    Both ``(V, A, E)``, as :func:`phantom_distance` takes them; the second holds another scan of the
    same subjects at the same sites. It is the floor of :func:`phantom_distance`: what remains where
    sites leave no trace but noise and pose do. NaN where that is.
    """
    z, second = (np.asarray(part, dtype=np.float64) for part in (embedding, again))
    if z.ndim != 3 or z.shape != second.shape:
        raise ValueError(f"embeddings of phantoms are (V, A, E), not {z.shape} and {second.shape}")
    if z.shape[0] < 2 or z.shape[1] < 1:
        return float("nan")
    between_subjects = _mean_distance(z.transpose(1, 0, 2))
    if not between_subjects > 0:
        return float("nan")
    return float(np.linalg.norm(z - second, axis=-1).mean()) / between_subjects


def _mean_distance(groups: npt.NDArray[np.float64]) -> float:
    """Mean distance over all pairs within each group of ``(G, M, E)``."""
    i, j = np.triu_indices(groups.shape[1], 1)
    return float(np.linalg.norm(groups[:, i] - groups[:, j], axis=-1).mean())
