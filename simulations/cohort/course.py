"""What becomes of the synthetic patients with MCI: the truth, and the visits that tell it.

Severity grows by ``progression_per_year`` times a pace of the person's own; AD begins where it
crosses the middle between the means of MCI and AD. The diagnosis is made at the next yearly visit
that comes after the last scan, so that a scan's label never changes. Of those below the middle
between CN and MCI some are called CN at month 24: they revert. Some are lost to follow-up early.

The pace is drawn anew, unless the cohort says ``steady_pace``: then a patient with two scans goes
on as between them.

Drawn from a stream of its own: no voxel and no label of a cohort depends on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from simulations.cohort.subject import Subject

COURSE_COLUMNS = (
    "participant_id",
    "site",
    "crosses_after_months",
    "followed_months",
    "last_diagnosis",
)
MONTHS = (12, 24, 36, 48)
_PACE_SD = 0.3
_LOST_SHARE = 0.2
_REVERSION_SHARE = 0.5
_REVERSION_MONTH = 24


@dataclass(frozen=True)
class ClinicalVisit:
    """A visit without a scan: BIDS label, months since the first visit, age, diagnosis."""

    session: str
    months: int
    age: float
    diagnosis: str


@dataclass(frozen=True)
class Course:
    """One patient with MCI.

    Attributes:
        crosses_after_months: when severity reaches that of AD; infinite where it does not grow.
        visits: after the last scan, in order of time; none of somebody lost to follow-up at once.
    """

    crosses_after_months: float
    visits: tuple[ClinicalVisit, ...]


def course_of(subject: Subject) -> Course | None:
    """The course of a patient; None unless the diagnosis is MCI."""
    if subject.diagnosis != "MCI":
        return None
    effect = subject.spec.effect
    healthy, mild, severe = effect.severity_mean
    rng = subject.rng("course")
    first, last = subject.visits[0], subject.visits[-1]
    pace = effect.progression_per_year * float(rng.lognormal(0, _PACE_SD))
    if effect.steady_pace and last.age > first.age:
        pace = (last.severity - first.severity) / (last.age - first.age)
    lost, lost_at = rng.random() < _LOST_SHARE, float(rng.uniform(0, 48))
    reverts = rng.random() < _REVERSION_SHARE
    missing = (mild + severe) / 2 - first.severity
    crosses = 0.0 if missing <= 0 else 12 * missing / pace if pace > 0 else math.inf
    reverts = reverts and first.severity < (healthy + mild) / 2
    scanned = 12 * (last.age - first.age)
    visits = []
    for month in MONTHS:
        if month <= scanned or (lost and month > lost_at):
            continue
        diagnosis = "AD" if month >= crosses else "MCI"
        if diagnosis == "MCI" and reverts and month >= _REVERSION_MONTH:
            diagnosis = "CN"
        age = round(first.age + month / 12, 1)
        visits.append(ClinicalVisit(f"M{month:02d}", month, age, diagnosis))
    return Course(crosses, tuple(visits))


def course_rows(subjects: Sequence[Subject]) -> list[tuple[str, ...]]:
    """The truth of every patient with MCI, as rows of :data:`COURSE_COLUMNS`."""
    rows: list[tuple[str, ...]] = []
    for subject in subjects:
        course = course_of(subject)
        if course is not None:
            visits = course.visits
            rows.append(
                (
                    f"sub-{subject.participant}",
                    subject.site.name,
                    f"{course.crosses_after_months:.1f}",
                    str(visits[-1].months if visits else 0),
                    visits[-1].diagnosis if visits else subject.diagnosis,
                )
            )
    return rows
