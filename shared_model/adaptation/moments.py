"""Layer B: class-conditional moments of embeddings, bounded per patient, from noised sums.

Of one patient with embedding z, ``||z||_2 <= R``, the vector

    v = [ sqrt(.6) z / R,  sqrt(.1),  sqrt(.3) clip(z^2, R_2) / R_2 ]

has L2 norm at most one (science.md 3.3), so the sums of v by class, with a Gaussian of standard
deviation ``s`` on every number, are one use of the Gaussian mechanism with noise multiplier ``s``
under add-or-remove-one-patient: a patient has one class, so the classes compose in parallel. What
is computed from the sums is post-processing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MEAN, COUNT, SQUARE = "mean", "count", "square"

#: Kept below one so that rounding, of whatever order of sums, cannot reach it.
_MARGIN = 1e-6
_SQUARED_SHARE = {MEAN: 0.6, COUNT: 0.1, SQUARE: 0.3}
# z^2 has norm R^2 only where one coordinate holds all of z; half of it cuts next to nothing.
_SQUARE_RADIUS = 0.5
#: Below so many patients (after noise) a class is divided as if it had them.
_FEWEST = 4.0
#: Smallest variance of a coordinate, relative to the mean over the coordinates.
_VARIANCE_FLOOR = 0.05


def projection(seed: int, embedding: int, dimensions: int | None) -> Floats:
    """``(E, D)`` orthonormal columns, fixed by the plan's public seed; the identity without D.

    Fewer dimensions have less noise each where a site is small (science.md 3.3).
    """
    if dimensions is None or dimensions >= embedding:
        return np.eye(embedding)
    random = np.random.default_rng([seed, embedding, dimensions])
    columns: Floats = np.linalg.qr(random.standard_normal((embedding, dimensions)))[0]
    return columns


def shapes(classes: int, dimensions: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays of one release."""
    return {MEAN: (classes, dimensions), COUNT: (classes,), SQUARE: (classes, dimensions)}


def patient_vectors(y: Ints, z: Floats, classes: int, radius: float) -> Floats:
    """``(N, C (2 D + 1))``: the arrays of each patient, flat, in the order of :func:`shapes`.

    Args:
        y: ``(N,)`` true classes in 0..C-1.
        z: ``(N, D)`` embeddings; longer ones are cut to ``radius``, and a row that is not finite
            gives a row of zeros.

    Every row depends on its own patient alone and has L2 norm below one.
    """
    count, _dimensions = z.shape
    usable = np.asarray(np.isfinite(z).all(axis=1))
    z = _cut(np.where(usable[:, None], z, 0.0), radius)
    square = _cut(z**2, _SQUARE_RADIUS * radius**2)
    rows = np.arange(count)
    parts = []
    for name, value in ((MEAN, z), (COUNT, np.ones((count, 1))), (SQUARE, square)):
        by_class = np.zeros((count, classes, value.shape[1]))
        by_class[rows, y] = value * _unit(name, radius)
        parts.append(by_class.reshape(count, -1))
    return np.where(usable[:, None], np.concatenate(parts, axis=1), 0.0)


@dataclass(frozen=True)
class SiteMoments:
    """Moments of one site's embeddings, as far as the noise lets them be known.

    Attributes:
        means: ``(C, D)`` of each class; zero where no patient seems to have it.
        counts: ``(C,)`` patients, not negative.
        variances: ``(D,)`` within the classes, pooled over them, positive.
        means_sd: ``(C,)`` standard deviation of the noise on every number of a class's mean.
        variances_sd: that of the noise on every variance, as far as it comes from the squares.
    """

    means: Floats
    counts: Floats
    variances: Floats
    means_sd: Floats
    variances_sd: float = 0.0

    @classmethod
    def of(
        cls, arrays: Mapping[str, npt.ArrayLike], radius: float, noise_multiplier: float = 0.0
    ) -> SiteMoments:
        """From the sums of one release, in the shapes of :func:`shapes`."""
        summed = np.asarray(arrays[MEAN], np.float64) / _unit(MEAN, radius)
        counts = np.asarray(arrays[COUNT], np.float64).reshape(-1) / _unit(COUNT, radius)
        squares = np.asarray(arrays[SQUARE], np.float64) / _unit(SQUARE, radius)
        counts = np.maximum(counts, 0.0)
        safe = np.maximum(counts, _FEWEST)
        means = _cut(summed / safe[:, None], radius)
        within = squares.sum(0) - (safe[:, None] * means**2).sum(0)
        patients = max(float(counts.sum()), _FEWEST)
        variances = within / patients
        typical = max(float(np.mean(np.maximum(variances, 0))), 1e-4 * radius**2 / len(variances))
        noise = noise_multiplier / _unit(MEAN, radius)
        squares_noise = noise_multiplier * len(counts) ** 0.5 / _unit(SQUARE, radius)
        return cls(
            means,
            counts,
            np.maximum(variances, _VARIANCE_FLOOR * typical),
            noise / safe,
            squares_noise / patients,
        )

    def offset_from(self, centre: Floats) -> Floats:
        """``(D,)`` mean over the classes, weighed by how well each is known, of mean - centre."""
        weights = self.counts / max(float(self.counts.sum()), 1e-12)
        offset: Floats = weights @ (self.means - centre)
        return offset


def common_centre(sites: Mapping[str, SiteMoments]) -> Floats:
    """``(C, D)`` mean of the sites' class means; a class counts by the patients who have it."""
    counts = np.stack([site.counts for site in sites.values()])
    weights = counts / np.maximum(counts.sum(0), 1e-12)
    centre: Floats = np.einsum("kc,kcd->cd", weights, np.stack([s.means for s in sites.values()]))
    return centre


def pooled_variances(sites: Mapping[str, SiteMoments]) -> Floats:
    """``(D,)`` mean of the sites' variances, weighed by their patients."""
    counts = np.array([site.counts.sum() for site in sites.values()])
    weights = np.full(len(counts), 1 / len(counts)) if not counts.sum() else counts / counts.sum()
    pooled: Floats = weights @ np.stack([site.variances for site in sites.values()])
    return pooled


def _unit(name: str, radius: float) -> float:
    """What one patient adds to an array where the plain sum would rise by one."""
    scale = {MEAN: radius, COUNT: 1.0, SQUARE: _SQUARE_RADIUS * radius**2}[name]
    return (1 - _MARGIN) * math.sqrt(_SQUARED_SHARE[name]) / scale


def _cut(rows: Floats, bound: float) -> Floats:
    with np.errstate(over="ignore"):  # a norm beyond float64 is infinite, and its row zero
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
    cut: Floats = rows * np.minimum(1.0, bound / np.maximum(norms, 1e-300))
    return cut
