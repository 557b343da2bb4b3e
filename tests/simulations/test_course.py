"""What becomes of synthetic patients with MCI: drawn apart from voxels, written to the tables."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from simulations.cohort.bids_writer import write_sessions, write_tsv
from simulations.cohort.course import MONTHS, course_of
from simulations.cohort.design import default_cohort
from simulations.cohort.spec import CohortSpec, EffectSpec
from simulations.cohort.subject import Subject, draw_subject


def subjects(spec: CohortSpec, count: int = 120) -> list[Subject]:
    return [draw_subject(spec, site, i) for site in spec.sites for i in range(count)]


def test_the_worse_the_sooner_and_at_the_pace_of_the_spec() -> None:
    spec = default_cohort(120, seed=3)
    mild = [(s, c) for s in subjects(spec) if (c := course_of(s)) is not None]
    assert len(mild) > 150
    threshold = (spec.effect.severity_mean[1] + spec.effect.severity_mean[2]) / 2
    for subject, course in mild:
        missing = threshold - subject.visits[0].severity
        if missing <= 0:
            assert course.crosses_after_months == 0
            continue
        pace = 12 * missing / course.crosses_after_months
        # Lognormal with sd 0.3: beyond five standard deviations nobody is drawn.
        assert abs(math.log(pace / spec.effect.progression_per_year)) < 1.5
    progressed = sum(c.crosses_after_months <= 36 for _, c in mild) / len(mild)
    assert 0.35 < progressed < 0.65


def test_without_progression_nobody_crosses_later() -> None:
    spec = default_cohort(60, seed=3).model_copy(
        update={"effect": EffectSpec(progression_per_year=0.0)}
    )
    for subject in subjects(spec, 60):
        course = course_of(subject)
        if course is not None:
            assert course.crosses_after_months in (0.0, math.inf)


def test_a_patient_is_the_same_however_many_others_there_are() -> None:
    few, many = default_cohort(10, seed=3), default_cohort(90, seed=3)
    for one, other in zip(subjects(few, 10), subjects(many, 10), strict=True):
        assert course_of(one) == course_of(other)


def test_scans_keep_their_diagnosis_and_visits_come_after_them(tmp_path: Path) -> None:
    for subject in subjects(default_cohort(40, seed=3), 40):
        write_sessions(tmp_path, subject)
        name = f"sub-{subject.participant}"
        lines = (tmp_path / name / f"{name}_sessions.tsv").read_text().splitlines()
        rows = [line.split("\t") for line in lines[1:]]
        scanned = rows[: len(subject.visits)]
        assert all(row[2] == subject.diagnosis for row in scanned)
        later = [float(row[3]) for row in rows[len(scanned) :]]
        assert later == sorted(later)
        assert all(month > float(scanned[-1][3]) and month in MONTHS for month in later)


def test_an_older_cohort_gets_its_rows_and_a_new_one_is_left_alone(tmp_path: Path) -> None:
    subject = next(
        s for s in subjects(default_cohort(40, seed=3), 40) if (c := course_of(s)) and c.visits
    )
    name = f"sub-{subject.participant}"
    path = tmp_path / name / f"{name}_sessions.tsv"
    old = [(f"ses-{v.session}", f"{v.age:.1f}", subject.diagnosis) for v in subject.visits]
    write_tsv(path, ("session_id", "age", "diagnosis"), old)
    write_sessions(tmp_path, subject)
    assert "months" in path.read_text().splitlines()[0]
    before = path.stat().st_ino
    write_sessions(tmp_path, subject)
    assert path.stat().st_ino == before


@pytest.mark.parametrize("diagnosis", ["CN", "AD"])
def test_nobody_else_has_a_course(diagnosis: str) -> None:
    some = [s for s in subjects(default_cohort(30, seed=3), 30) if s.diagnosis == diagnosis]
    assert some
    assert all(course_of(s) is None for s in some)
