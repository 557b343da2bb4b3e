"""Smooth, invertible maps on the 3 mm field: stationary velocities and their exponential.

A field is ``(3, *FIELD_SHAPE)`` float32, mm per component (R, A, S).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn, idctn

from simulations.cohort.template import FIELD_SHAPE, FIELD_SPACING_MM
from simulations.cohort.trilinear import sample

Field = npt.NDArray[np.float32]
SQUARINGS = 5
_NODES = np.stack(
    np.meshgrid(*(np.arange(n, dtype=np.float32) for n in FIELD_SHAPE), indexing="ij")
)


def _squared_frequency() -> npt.NDArray[np.float64]:
    """``k^2`` in 1/mm^2 of each cosine mode of the field."""
    axes = [(np.pi * np.arange(n) / (n * FIELD_SPACING_MM)) ** 2 for n in FIELD_SHAPE]
    total: npt.NDArray[np.float64] = (
        axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
    )
    return total


def smooth_noise(
    rng: np.random.Generator, scales: tuple[tuple[float, float], ...], components: int
) -> Field:
    """Gaussian random fields of given smoothness.

    Args:
        rng: the source of randomness.
        scales: pairs (sigma of the smoothing kernel in mm, standard deviation); they add up.
        components: independent fields to draw.

    Returns:
        ``(components, *FIELD_SHAPE)`` float32.
    """
    k2 = _squared_frequency()
    spectrum = np.zeros(FIELD_SHAPE)
    for sigma_mm, deviation in scales:
        power = np.exp(-k2 * sigma_mm**2)
        power[0, 0, 0] = 0.0
        spectrum += deviation**2 * power / power.sum() * power.size
    shaped = rng.standard_normal((components, *FIELD_SHAPE), dtype=np.float32) * np.sqrt(spectrum)
    field: Field = idctn(shaped, axes=(1, 2, 3), norm="ortho").astype(np.float32)
    return field


def potential_flow(divergence: npt.NDArray[np.floating]) -> Field:
    """The curl-free field of the given divergence: ``grad psi`` with ``laplace psi = divergence``.

    Discrete Poisson equation with reflecting borders, solved by the cosine transform. The mean of
    the divergence is dropped: nothing crosses the border.

    Args:
        divergence: ``FIELD_SHAPE``, per unit time.

    Returns:
        ``(3, *FIELD_SHAPE)`` mm.
    """
    waves = [2.0 - 2.0 * np.cos(np.pi * np.arange(n) / n) for n in FIELD_SHAPE]
    laplace = -(waves[0][:, None, None] + waves[1][None, :, None] + waves[2][None, None, :])
    laplace[0, 0, 0] = 1.0
    modes = dctn(divergence.astype(np.float32), norm="ortho") / laplace
    modes[0, 0, 0] = 0.0
    psi = idctn(modes, norm="ortho") * FIELD_SPACING_MM**2
    return np.stack([np.gradient(psi, FIELD_SPACING_MM, axis=a) for a in range(3)]).astype(
        np.float32
    )


def exponential(velocity: Field) -> Field:
    """Displacement ``exp(v)(x) - x`` in mm by scaling and squaring; the inverse map is exp(-v)."""
    displacement = velocity / np.float32(2**SQUARINGS)
    for _ in range(SQUARINGS):
        displacement = compose(displacement, displacement)
    return displacement


def compose(outer: Field, inner: Field) -> Field:
    """Displacement of ``x -> outer(inner(x))``, both given and returned in mm."""
    where = _NODES + inner / np.float32(FIELD_SPACING_MM)
    moved: Field = inner + sample(outer, where)
    return moved


def jacobian_determinant(displacement: Field) -> npt.NDArray[np.float64]:
    """``det(I + grad u)`` at the nodes, ``FIELD_SHAPE``; positive where nothing folds."""
    gradient = np.stack(
        [np.stack(np.gradient(part.astype(np.float64), FIELD_SPACING_MM)) for part in displacement]
    )
    matrix = np.moveaxis(gradient, (0, 1), (-2, -1)) + np.eye(3)
    determinant: npt.NDArray[np.float64] = np.linalg.det(matrix)
    return determinant
