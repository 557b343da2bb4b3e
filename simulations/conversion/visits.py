"""Synthetic patients with MCI, scanned twice: volumes of both visits, and what became of them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.archive.progression import FollowUp, Progression, progression_of
from client.prepared.intensity import standardise
from shared_model.atlas.cache import write_atomically
from simulations.cohort.anatomy import anatomy_volume
from simulations.cohort.cohort import all_subjects, run_patients
from simulations.cohort.course import course_of
from simulations.cohort.scanner import apply_scanner, random_scanner
from simulations.cohort.spec import DIAGNOSES, CohortSpec, EffectSpec, SiteSpec
from simulations.cohort.subject import Subject

_SMALLEST_ML = 0.02


def memory_clinic(patients: int, seed: int) -> CohortSpec:
    """People with MCI, everybody scanned twice 0.8 to 2.2 years apart, each on one random scanner.

    Their course goes on at the pace between the two scans (``steady_pace``): in the default cohort
    the later pace is drawn anew, and no method could learn it from two scans.
    """
    return CohortSpec(
        name="memory-clinic",
        seed=seed,
        sites=(
            SiteSpec(
                name="memory-clinic",
                patients=patients,
                prevalence=(0.0, 1.0, 0.0),
                scanner="random",
            ),
        ),
        effect=EffectSpec(steady_pace=True),
        second_session_share=1.0,
    )


@dataclass(frozen=True, eq=False)
class Followed:
    """One patient.

    Attributes:
        subject: who.
        scans: two standardised scans ``(D, H, W)`` at 2 mm, in order of time.
        volumes: ``(2, R)`` log of true region volume over intracranial volume.
        years: between the scans.
        progression: at 36 months after the first scan.
        event: whether AD was diagnosed at a visit.
        months: from the second scan (the landmark) to that visit, or to the last one.
    """

    subject: Subject
    scans: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
    volumes: npt.NDArray[np.float64]
    years: float
    progression: Progression
    event: bool
    months: float


def follow(spec: CohortSpec, folder: Path, workers: int) -> list[Followed]:
    """Generate everybody of the cohort, or find them in ``folder``; both visits of each."""
    subjects = all_subjects(spec)
    waiting = [s for s in subjects if not _path(folder, s).exists()]
    run_patients(partial(_generate, folder), waiting, workers)
    return [_read(folder, subject) for subject in subjects]


def _path(folder: Path, subject: Subject) -> Path:
    return folder / f"{subject.participant}-{subject.spec.seed}.npz"


def _generate(folder: Path, subject: Subject) -> None:
    scanner = random_scanner(subject.rng("scanner"))
    scans, volumes = [], []
    for visit in subject.visits:
        clean, region_ml, icv_ml = anatomy_volume(subject, visit)
        rng = subject.rng(f"scan-{visit.session}")
        scan = standardise(apply_scanner(clean, scanner, rng, (2.0, 2.0, 2.0)))
        scans.append(scan.astype(np.float16))
        volumes.append(np.log(np.maximum(region_ml, _SMALLEST_ML) / icv_ml))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, scans=np.stack(scans), volumes=np.stack(volumes))
    write_atomically(_path(folder, subject), buffer.getvalue())


def _read(folder: Path, subject: Subject) -> Followed:
    with np.load(_path(folder, subject)) as data:
        first, second = data["scans"].astype(np.float32)
        volumes = data["volumes"]
    course = course_of(subject)
    assert course is not None  # everybody has MCI
    years = subject.visits[1].age - subject.visits[0].age
    later = [FollowUp(float(visit.months), visit.diagnosis) for visit in course.visits]
    known = [FollowUp(0.0, "MCI"), FollowUp(12 * years, "MCI"), *later]
    diagnosed = [visit.months for visit in later if visit.diagnosis == "AD"]
    last = max([12 * years, *(visit.months for visit in later)])
    return Followed(
        subject,
        (first, second),
        volumes,
        years,
        progression_of(known, DIAGNOSES),
        bool(diagnosed),
        (min(diagnosed) if diagnosed else last) - 12 * years,
    )
