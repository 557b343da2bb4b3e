"""What a hospital adds up for federated ComBat, with a bound on every patient (layer D).

One release of sums is enough: location, scale and residual sums of squares of ComBat follow from
counts, sums and products of covariates x and features y (compare d-ComBat, Chen et al. 2022, which
needs two). With clipping, one patient's numbers together have L2 norm below one, so a Gaussian of
standard deviation ``z`` on every number is one use of the Gaussian mechanism with noise multiplier
``z`` under add-or-remove-one-patient. Assumes that the public centres and scales below do not come
from patients. Limit: at a hospital of n patients with G features, a site's mean carries noise of
about ``2 z R / n`` and its variance ``z R^2 / n`` (R: the radius of y): it takes hundreds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_model.errors import SmrfedError

Floats = npt.NDArray[np.float64]

_MARGIN = 1e-6
# Of the squared norm: count, x, x x', y, x y', y^2.
_SHARES = (0.05, 0.05, 0.1, 0.3, 0.2, 0.3)
# y^2 is as long as |y|^2 only where one feature holds all of y.
_SQUARE_RADIUS = 0.5


@dataclass(frozen=True)
class PublicScale:
    """How covariates and features are brought to about unit size, from public values alone.

    Attributes:
        x_centre, x_scale: ``(P,)``.
        y_centre, y_scale: ``(G,)``.
        x_radius, y_radius: L2 bounds after scaling; infinite: no clipping, for a release without
            noise.
    """

    x_centre: Floats
    x_scale: Floats
    y_centre: Floats
    y_scale: Floats
    x_radius: float = math.inf
    y_radius: float = math.inf

    def x(self, covariates: Floats) -> Floats:
        """``(N, P)`` scaled and clipped."""
        return _cut((covariates - self.x_centre) / self.x_scale, self.x_radius)

    def y(self, features: Floats) -> Floats:
        """``(N, G)`` scaled and clipped."""
        return _cut((features - self.y_centre) / self.y_scale, self.y_radius)


@dataclass(frozen=True)
class SiteSums:
    """Sums over the patients of one hospital, in scaled units; P covariates and G features.

    Attributes:
        n: patients.
        x: ``(P,)``.
        xx: ``(P, P)``.
        y: ``(G,)``.
        xy: ``(P, G)``.
        yy: ``(G,)`` of squares.
    """

    n: float
    x: Floats
    xx: Floats
    y: Floats
    xy: Floats
    yy: Floats

    @classmethod
    def exact(cls, covariates: Floats, features: Floats, scale: PublicScale) -> SiteSums:
        """Of one hospital, without noise; raises SMR-E647 for nobody or a missing value."""
        _check(covariates, features)
        x, y = scale.x(covariates), scale.y(features)
        return cls(float(len(x)), x.sum(0), x.T @ x, y.sum(0), x.T @ y, (y**2).sum(0))

    @classmethod
    def of_noised(cls, total: npt.ArrayLike, covariates: int, scale: PublicScale) -> SiteSums:
        """From the noised sum ``(V,)`` of :func:`patient_vectors`."""
        p, g = covariates, len(scale.y_centre)
        sizes = (1, p, p * (p + 1) // 2, g, p * g, g)
        parts = np.split(np.asarray(total, np.float64), np.cumsum(sizes)[:-1])
        n, x, triangle, y, xy, yy = (
            part / unit for part, unit in zip(parts, _units(scale), strict=True)
        )
        row, column = np.triu_indices(p)
        xx = np.zeros((p, p))
        xx[row, column] = triangle / np.where(row == column, 1.0, math.sqrt(2.0))
        return cls(float(n[0]), x, xx + np.triu(xx, 1).T, y, xy.reshape(p, g), yy)


def patient_vectors(covariates: Floats, features: Floats, scale: PublicScale) -> Floats:
    """``(N, V)`` one row per patient, of L2 norm below one whatever the values.

    For ``client.privacy.gaussian_release.release_sum``. A row that is not finite is zero. Raises
    ValueError for a scale without radii: there is no bound then.
    """
    if not (math.isfinite(scale.x_radius) and math.isfinite(scale.y_radius)):
        raise ValueError("a release with noise needs x_radius and y_radius")
    usable = np.asarray(np.isfinite(covariates).all(1) & np.isfinite(features).all(1))
    x = scale.x(np.where(usable[:, None], covariates, 0.0))
    y = scale.y(np.where(usable[:, None], features, 0.0))
    row, column = np.triu_indices(x.shape[1])
    twice = np.where(row == column, 1.0, math.sqrt(2.0))
    blocks = (
        np.ones((len(x), 1)),
        x,
        x[:, row] * x[:, column] * twice,
        y,
        (x[:, :, None] * y[:, None]).reshape(len(x), -1),
        _cut(y**2, _SQUARE_RADIUS * scale.y_radius**2),
    )
    scaled = [block * unit for block, unit in zip(blocks, _units(scale), strict=True)]
    return np.where(usable[:, None], np.concatenate(scaled, axis=1), 0.0)


def noise_of_sums(noise_multiplier: float, scale: PublicScale) -> SiteSums:
    """Standard deviation of the noise on every number, in the places of the numbers (scalars)."""
    n, x, xx, y, xy, yy = (np.array([noise_multiplier / unit]) for unit in _units(scale))
    return SiteSums(float(n[0]), x, xx, y, xy, yy)


def _units(scale: PublicScale) -> tuple[float, ...]:
    """What one patient adds to each block where the plain sum would rise by one."""
    a, b = scale.x_radius, scale.y_radius
    sizes = (1.0, a, a**2, b, a * b, _SQUARE_RADIUS * b**2)
    return tuple(
        (1 - _MARGIN) * math.sqrt(share) / size for share, size in zip(_SHARES, sizes, strict=True)
    )


def _cut(rows: Floats, bound: float) -> Floats:
    if not math.isfinite(bound):
        return rows
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    safe = np.maximum(largest, 1e-300)  # first by the largest, so that no square overflows
    norms = safe * np.linalg.norm(rows / safe, axis=1, keepdims=True)
    cut: Floats = rows * np.minimum(1.0, bound / np.maximum(norms, 1e-300))
    return cut


def _check(covariates: Floats, features: Floats) -> None:
    counts = (len(covariates), len(features))
    if counts[0] != counts[1] or counts[0] < 2:
        found = f"{counts[0]} rows of covariates, {counts[1]} of features"
    elif not (np.isfinite(covariates).all() and np.isfinite(features).all()):
        found = "values that are missing or not finite"
    else:
        return
    raise SmrfedError(
        "SMR-E647",
        "a hospital's table cannot be harmonised",
        expected="at least two patients, each with every covariate and feature",
        found=found,
        remedy="leave the hospital or the patients with missing values out",
    )
