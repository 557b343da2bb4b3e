"""Normal volumes of the atlas's regions for age and sex, from public people."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

_PACKAGED = Path(__file__).parent / "volume_norms.json"
_AGE = 70.0

Floats = npt.NDArray[np.float64]


class VolumeNorms(BaseModel):
    """A line in age for each region, men shifted, with its spread.

    ``log(V / brain) = intercept + per_decade (age - 70) / 10 + male [is male] + sd * z``

    Attributes:
        reference: who the people are, in words for the page.
        command: that measured them.
        people: how many.
        atlas_sha256, spacing_mm, intensity: what the volumes were measured with; with anything
            else they are other numbers.
        intercept, per_decade, male, sd: ``(R,)`` each, in the atlas's order.
        age_low, age_high: ages of the people; beyond them nothing is said.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str
    command: str
    people: int
    atlas_sha256: str
    spacing_mm: float
    intensity: str
    age_low: float
    age_high: float
    intercept: tuple[float, ...]
    per_decade: tuple[float, ...]
    male: tuple[float, ...]
    sd: tuple[float, ...]

    def z(self, log_share: Floats, age: float, sex: str) -> Floats:
        """``(R,)`` deviations of ``log(V / brain)`` of one person; ``sex`` begins with M or F."""
        is_male = sex.upper().startswith("M")
        expected = (
            np.asarray(self.intercept)
            + np.asarray(self.per_decade) * (age - _AGE) / 10
            + np.asarray(self.male) * is_male
        )
        return np.asarray((log_share - expected) / np.asarray(self.sd))


@dataclass(frozen=True, eq=False)
class Measured:
    """One person of the reference: ``log_share`` is ``(R,)``."""

    log_share: Floats
    age: float
    sex: str


def fit_norms(
    people: list[Measured],
) -> tuple[Floats, Floats, Floats, Floats]:
    """Least squares per region: intercept, slope per decade, shift of men, and residual sd.

    Raises ValueError below ten people.
    """
    if len(people) < 10:
        raise ValueError(f"{len(people)} people are too few for a norm")
    design = np.asarray(
        [[1.0, (p.age - _AGE) / 10, float(p.sex.upper().startswith("M"))] for p in people]
    )
    target = np.stack([p.log_share for p in people])
    weights, *_ = np.linalg.lstsq(design, target, rcond=None)
    left = target - design @ weights
    sd = np.sqrt((left**2).sum(0) / (len(people) - design.shape[1]))
    return weights[0], weights[1], weights[2], np.maximum(sd, 1e-6)


def percentile(z: float) -> float:
    """Share of the reference that lies below, 0 to 100, under a normal distribution."""
    return 100 * NormalDist().cdf(z)


@cache
def shipped_norms() -> VolumeNorms:
    """The norms that ship; see their ``reference``."""
    return VolumeNorms.model_validate_json(_PACKAGED.read_bytes())
