"""Structure-function coupling: how alike a region's two connectivity profiles are; no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.floating]


def regional_coupling(structural: Matrix, functional: Matrix) -> npt.NDArray[np.float64]:
    """``(R,)`` Pearson correlation of each region's structural and functional profile.

    Both are ``(R, R)``; the diagonal is left out. Structural weights enter as ``log1p``, functional
    ones as they are (Baum et al., PNAS 2020, with profiles of all regions). NaN where a region is
    not connected, or a profile is flat.
    """
    regions = len(structural)
    off = ~np.eye(regions, dtype=bool)
    first = np.log1p(np.asarray(structural, np.float64))[off].reshape(regions, regions - 1)
    second = np.asarray(functional, np.float64)[off].reshape(regions, regions - 1)
    first = first - first.mean(1, keepdims=True)
    second = second - second.mean(1, keepdims=True)
    size = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        coupling: npt.NDArray[np.float64] = np.where(
            size > 1e-12, (first * second).sum(1) / size, np.nan
        )
    return coupling
