"""People of every site: streamline counts and correlations, with site effects and labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulations.connectomes.anatomy import Anatomy, Matrix, make_anatomy, noise
from simulations.connectomes.spec import ConnectomeSpec

#: Standard deviation between people: of log streamlines, and of Fisher's z.
_PEOPLE = (0.5, 0.15)
#: Site effects of size 1: log scale of counts, share of weakest edges lost, log scale of z.
_SCALE, _LOST, _Z_SCALE = 0.7, 0.25, 0.15


@dataclass(frozen=True)
class Person:
    """One patient. A modality that is missing is none.

    Attributes:
        id: such as ``harbour003``.
        label: index into :data:`simulations.connectomes.spec.LABELS`.
        structural: ``(R, R)`` streamline counts.
        functional: ``(R, R)`` correlations with a unit diagonal.
    """

    id: str
    label: int
    age: float
    sex: str
    structural: Matrix | None
    functional: Matrix | None


@dataclass(frozen=True)
class ConnectomeCohort:
    """People by site, and the truth that they were drawn from."""

    spec: ConnectomeSpec
    anatomy: Anatomy
    sites: dict[str, tuple[Person, ...]]


def make_cohort(spec: ConnectomeSpec) -> ConnectomeCohort:
    """Draw a cohort; the same spec gives the same numbers."""
    anatomy = make_anatomy(spec)
    sites = {
        name: _site(spec, anatomy, name, np.random.default_rng([2, spec.seed, number]))
        for number, name in enumerate(spec.sites)
    }
    return ConnectomeCohort(spec, anatomy, sites)


def _site(
    spec: ConnectomeSpec, anatomy: Anatomy, name: str, random: np.random.Generator
) -> tuple[Person, ...]:
    size = spec.site_effects
    scale = np.exp(size * random.uniform(-_SCALE, _SCALE))
    lost = min(0.9, size * random.uniform(0, _LOST))
    z_scale = np.exp(size * random.uniform(-_Z_SCALE, _Z_SCALE))
    people = []
    for number in range(spec.patients):
        label, directions = _label(spec, number, random)
        shift = [
            spec.effect / 2 * direction * changed
            for direction, changed in zip(directions, anatomy.changed, strict=True)
        ]
        own = [noise(random, spec.regions) for _ in range(2)]
        logs = anatomy.structural + _PEOPLE[0] * (own[0] + shift[0])
        counts = _symmetric_counts(random, scale * np.exp(logs))
        counts[counts < np.quantile(counts, lost)] = 0
        z = z_scale * (anatomy.functional + _PEOPLE[1] * (own[1] + shift[1]))
        correlation = np.tanh(z)
        np.fill_diagonal(correlation, 1.0)
        age, sex = random.uniform(18, 60), "FM"[int(random.integers(2))]
        drawn, which = random.uniform(), int(random.integers(2))
        without = which if drawn < spec.missing else None
        people.append(
            Person(
                f"{name}{number:03d}",
                label,
                float(age),
                sex,
                None if without == 0 else counts,
                None if without == 1 else correlation,
            )
        )
    return tuple(people)


def _label(
    spec: ConnectomeSpec, number: int, random: np.random.Generator
) -> tuple[int, tuple[float, float]]:
    """Class, and whether structural and functional planted edges are up (1) or down (-1)."""
    label = number % 2
    coin = float(random.choice((-1.0, 1.0)))
    if spec.task == "interaction":
        return label, (coin, coin if label else -coin)
    return label, (1.0, 1.0) if label else (-1.0, -1.0)


def _symmetric_counts(random: np.random.Generator, mean: Matrix) -> Matrix:
    drawn = np.triu(random.poisson(mean), 1).astype(np.float64)
    return drawn + drawn.T
