"""Who the synthetic patients are: severity, diagnosis, age, sex and the seeds of their anatomy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from simulations.cohort.spec import CohortSpec, SiteSpec

# Steps of the golden ratio spread over [0, 1) evenly at every length: the first n patients of a
# site have its prevalence as closely as whole patients can, and patient i is the same for every n.
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Visit:
    """One scan of one patient.

    Attributes:
        session: BIDS label, ``01`` or ``02``.
        age: years.
        severity: latent stage, about 0 (healthy) to 1.
        coarse: severity as the volumes show it.
        fine: severity as the texture shows it.
    """

    session: str
    age: float
    severity: float
    coarse: float
    fine: float


@dataclass(frozen=True)
class Subject:
    """One synthetic patient.

    Attributes:
        spec: the cohort.
        site: the hospital.
        index: position within the site, from 0.
        participant: BIDS label without ``sub-``.
        diagnosis: one of the cohort's, such as MCI; fixed over the visits.
        sex: M or F.
        visits: one or two, in order of age.
    """

    spec: CohortSpec
    site: SiteSpec
    index: int
    participant: str
    diagnosis: str
    sex: str
    visits: tuple[Visit, ...]

    def rng(self, purpose: str) -> np.random.Generator:
        """Independent randomness for one purpose, fixed by seed, site and index alone."""
        return named_rng(self.spec.seed, self.site.name, self.index, purpose)


def named_rng(seed: int, *path: str | int) -> np.random.Generator:
    """A generator that depends on the seed and a path of names only."""
    text = "/".join(str(part) for part in (seed, *path))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


def draw_subject(spec: CohortSpec, site: SiteSpec, index: int) -> Subject:
    """The patient at a position of a site; the same however many others are drawn."""
    effect = spec.effect
    rng = named_rng(spec.seed, site.name, index, "subject")
    offset = float(named_rng(spec.seed, site.name, "prevalence").random())
    quantile = (offset + index * _GOLDEN) % 1.0
    label = int(np.searchsorted(np.cumsum(site.prevalence), quantile, side="right"))
    label = min(label, len(effect.diagnoses) - 1)
    sex = "M" if rng.random() < spec.male_share else "F"
    age = float(np.clip(rng.normal(spec.age_mean[label] + site.age_shift, spec.age_sd), 50, 95))
    severity = float(rng.normal(effect.severity_mean[label], effect.severity_sd))
    coarse_offset, fine_offset = rng.normal(0, (effect.coarse_sd, effect.fine_sd))
    visits = [_visit("01", age, severity, coarse_offset, fine_offset)]
    if rng.random() < spec.second_session_share:
        years = float(rng.uniform(0.8, 2.2))
        pace = effect.progression_per_year if label > 0 else 0.0
        later = severity + years * pace * float(rng.lognormal(0, 0.3))
        visits.append(_visit("02", age + years, later, coarse_offset, fine_offset))
    prefix = spec.id_prefix or site.name.replace("-", "")
    return Subject(
        spec=spec,
        site=site,
        index=index,
        participant=f"{prefix}{index + 1:04d}",
        diagnosis=effect.diagnoses[label],
        sex=sex,
        visits=tuple(visits),
    )


def _visit(session: str, age: float, severity: float, coarse: float, fine: float) -> Visit:
    return Visit(session, round(age, 1), severity, severity + coarse, severity + fine)
