"""What people have in common: positions, tracts, coupling of function to structure, truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulations.connectomes.spec import ConnectomeSpec

Matrix = npt.NDArray[np.float64]
#: Logarithm of streamlines between regions at no distance, and its fall per unit of distance.
_TRACTS, _FALL, _TRACT_SPREAD = 6.0, 2.2, 0.6
#: Standard deviation of the common functional connectivity, in Fisher's z.
FUNCTION_SPREAD = 0.3


@dataclass(frozen=True)
class Anatomy:
    """A template and the edges that the disease changes.

    Attributes:
        structural: ``(R, R)`` mean logarithm of streamlines.
        functional: ``(R, R)`` mean Fisher z.
        coupling: ``(R,)`` share of a region's functional variance that follows its structure:
            edge (i, j) follows with correlation ``sqrt(c_i c_j)``.
        changed: per modality ``(R, R)`` symmetric: +1 or -1 on planted edges, 0 elsewhere.
    """

    structural: Matrix
    functional: Matrix
    coupling: Matrix
    changed: tuple[Matrix, Matrix]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the regions."""
        return tuple(f"region{number:03d}" for number in range(len(self.structural)))


def make_anatomy(spec: ConnectomeSpec) -> Anatomy:
    """The anatomy of a spec: regions on a sphere, tracts that thin out with distance."""
    random = np.random.default_rng([1, spec.anatomy])
    places = random.normal(size=(spec.regions, 3))
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    structural = _TRACTS - _FALL * distance + _TRACT_SPREAD * noise(random, spec.regions)
    off = ~np.eye(spec.regions, dtype=bool)
    alike = (structural - structural[off].mean()) / structural[off].std()
    spread = min(spec.coupling, 1 - spec.coupling)
    coupling = spec.coupling + spread * np.linspace(-1, 1, spec.regions)
    random.shuffle(coupling)
    follows = np.sqrt(coupling[:, None] * coupling[None])
    own = noise(random, spec.regions)
    functional = FUNCTION_SPREAD * (follows * alike + np.sqrt(1 - follows**2) * own)
    changed = tuple(_changed(random, spec) for _ in range(2))
    return Anatomy(structural, functional, coupling, (changed[0], changed[1]))


def noise(random: np.random.Generator, regions: int) -> Matrix:
    """``(R, R)`` symmetric standard normal numbers."""
    drawn = np.triu(random.normal(size=(regions, regions)), 1)
    return drawn + drawn.T


def _changed(random: np.random.Generator, spec: ConnectomeSpec) -> Matrix:
    rows, columns = np.triu_indices(spec.regions, 1)
    chosen = random.choice(len(rows), spec.planted, replace=False)
    out = np.zeros((spec.regions, spec.regions))
    out[rows[chosen], columns[chosen]] = random.choice((-1.0, 1.0), spec.planted)
    return out + out.T
