"""pMCI, sMCI, uMCI at 36 months: from tables, by hand, and against the synthetic truth."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from bids_fixture import LABELS, Person, Visit, write_bids
from test_archive_bids import MAPPING

from client.archive.labels import ColumnNames
from client.archive.progression import FollowUp, progression_of, read_progression
from client.archive.scanner_facts import ScannerFacts, scanner_facts
from shared_model.errors import SmrfedError

ORDER = ("CN", "MCI", "AD")


def course(*visits: tuple[float, str]) -> tuple[str, bool]:
    found = progression_of([FollowUp(months, diagnosis) for months, diagnosis in visits], ORDER)
    return found.label, found.reverted


@pytest.mark.parametrize(
    ("visits", "label", "reverted"),
    [
        (((0, "MCI"), (12, "MCI"), (24, "AD")), "pMCI", False),
        (((0, "MCI"), (36, "AD")), "pMCI", False),
        (((0, "MCI"), (38, "AD")), "pMCI", False),
        (((0, "MCI"), (24, "MCI"), (36, "MCI"), (48, "AD")), "sMCI", False),
        (((0, "MCI"), (33, "MCI")), "sMCI", False),
        (((0, "MCI"), (32, "MCI")), "uMCI", False),
        (((0, "MCI"),), "uMCI", False),
        (((0, "MCI"), (60, "MCI")), "sMCI", False),
        (((0, "MCI"), (24, "MCI"), (48, "AD")), "uMCI", False),
        (((0, "MCI"), (12, "CN"), (36, "CN")), "uMCI", True),
        (((0, "MCI"), (12, "AD"), (24, "MCI")), "uMCI", True),
        (((0, "MCI"), (36, "MCI"), (48, "CN")), "sMCI", False),
    ],
)
def test_the_label_at_36_months(
    visits: tuple[tuple[float, str], ...], label: str, reverted: bool
) -> None:
    assert course(*visits) == (label, reverted)
    assert course(*reversed(visits)) == (label, reverted)


def test_dropping_sessions_changes_the_label() -> None:
    whole = ((0, "MCI"), (24, "AD"), (36, "AD"))
    assert course(*whole)[0] == "pMCI"
    assert course(*whole[:1])[0] == "uMCI"
    reverted = ((0, "MCI"), (12, "AD"), (24, "MCI"), (36, "MCI"))
    assert course(*reverted) == ("uMCI", True)
    assert course(*reverted[:1], *reverted[2:]) == ("sMCI", False)


def archive(root: Path, rows: str, columns: str = "session_id\tmonths\tdiagnosis") -> Path:
    write_bids(
        root,
        Person("01", (Visit("MCI", "M00"),)),
        Person("02", (Visit("AD", "M00", 75.0),), "M"),
    )
    (root / "sub-01" / "sub-01_sessions.tsv").write_text(f"{columns}\n{rows}")
    return root


BASELINE = {"sub-01": "ses-M00", "sub-02": "ses-M00"}


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ("session_id\tmonths\tdiagnosis", "ses-M00\t0\tMCI\nses-X\t24\tAD\n"),
        ("session_id\tmonths\tdiagnosis", "ses-X\t124\tAD\nses-M00\t100\tMCI\n"),
        ("session_id\tdate\tdiagnosis", "M00\t2020-01-31\tMCI\nX\t2022-01-10\tAD\n"),
        ("session_id\tage\tdiagnosis", "M00\t70\tMCI\nX\t72.1\tAD\n"),
        ("session_id\tdiagnosis", "M00\tMCI\nM24\tAD\n"),
        # One clock for all rows: an age of 72 years is no month 864.
        ("session_id\tmonths\tage\tdiagnosis", "M00\t0\t70\tMCI\nY\tn/a\t72\tMCI\nX\t24\t72\tAD\n"),
        ("session_id\tmonths\tage\tdiagnosis", "M00\tn/a\t70\tMCI\nX\t500\t72\tAD\n"),
        ("session_id\tmonths\tdiagnosis", "M00\t0\tMCI\nY\t6\tunknown\nX\t24\tAD\nZ\tn/a\tCN\n"),
    ],
)
def test_visits_without_an_image_count_however_their_time_is_told(
    tmp_path: Path, columns: str, rows: str
) -> None:
    root = archive(tmp_path / "a", rows, columns)
    found = read_progression(root, MAPPING, LABELS, BASELINE)
    assert set(found) == {"sub-01"}
    assert found["sub-01"].label == "pMCI"
    assert "24" in found["sub-01"].why or "23" in found["sub-01"].why or "25" in found["sub-01"].why


def test_the_first_scan_is_month_zero_and_earlier_visits_do_not_count(tmp_path: Path) -> None:
    rows = "ses-E\t0\tCN\nses-M00\t12\tMCI\nses-X\t47\tAD\n"
    found = read_progression(archive(tmp_path / "a", rows), MAPPING, LABELS, BASELINE)
    assert (found["sub-01"].label, found["sub-01"].reverted) == ("pMCI", False)


def test_a_column_that_states_it_wins(tmp_path: Path) -> None:
    root = archive(tmp_path / "a", "ses-M00\t0\tMCI\nses-X\t24\tAD\n")
    table = root / "participants.tsv"
    lines = table.read_text().splitlines()
    told = [lines[0] + "\tCourse", lines[1] + "\tsMCI", lines[2] + "\tn/a"]
    table.write_text("\n".join(told) + "\n")
    named = MAPPING.model_copy(update={"columns": ColumnNames(progression="course")})
    found = read_progression(root, named, LABELS, BASELINE)
    assert found["sub-01"].label == "sMCI"
    assert read_progression(root, MAPPING, LABELS, BASELINE)["sub-01"].label == "pMCI"
    table.write_text(table.read_text().replace("sMCI", "stable"))
    with pytest.raises(SmrfedError, match="SMR-E210") as refused:
        read_progression(root, named, LABELS, BASELINE)
    assert "stable" in str(refused.value.found)


@pytest.mark.parametrize(
    ("columns", "value"),
    [("months", "soon"), ("date", "31.01.2020"), ("months", "inf"), ("age", "old")],
)
def test_an_impossible_time_is_refused(tmp_path: Path, columns: str, value: str) -> None:
    header = f"session_id\t{columns}\tdiagnosis"
    root = archive(tmp_path / "a", f"ses-M00\t{value}\tMCI\n", header)
    with pytest.raises(SmrfedError, match="SMR-E210") as refused:
        read_progression(root, MAPPING, LABELS, BASELINE)
    assert value in str(refused.value.found)


def test_without_mci_or_ad_in_the_plan_there_is_no_progression(tmp_path: Path) -> None:
    root = archive(tmp_path / "a", "ses-M00\t0\tMCI\nses-X\t24\tAD\n")
    two = MAPPING.model_copy(update={"values": {"CN": ("CN",)}})
    assert read_progression(root, two, ("CN", "other"), BASELINE) == {}


def test_the_synthetic_courses_are_read_back_as_they_were_drawn(tmp_path: Path) -> None:
    from simulations.cohort.bids_writer import write_archive_head, write_sessions
    from simulations.cohort.course import COURSE_COLUMNS, course_of, course_rows
    from simulations.cohort.design import default_cohort
    from simulations.cohort.subject import draw_subject

    spec = default_cohort(60, seed=5)
    site = spec.sites[1]
    subjects = [draw_subject(spec, site, i) for i in range(60)]
    write_archive_head(tmp_path, site, subjects)
    for subject in subjects:
        write_sessions(tmp_path, subject)
    mapping = MAPPING.model_copy(
        update={"values": {name: (name,) for name in ORDER}, "exclude": ()}
    )
    baseline = {f"sub-{s.participant}": "ses-01" for s in subjects}
    found = read_progression(tmp_path, mapping, ORDER, baseline)
    assert set(found) == {f"sub-{s.participant}" for s in subjects if s.diagnosis == "MCI"}
    truth = {row[0]: dict(zip(COURSE_COLUMNS, row, strict=True)) for row in course_rows(subjects)}
    labels = set()
    for name, one in found.items():
        crosses = float(truth[name]["crosses_after_months"])
        followed = int(truth[name]["followed_months"])
        labels.add(one.label)
        if one.label == "pMCI":
            assert crosses <= 36
        if one.label == "sMCI":
            assert crosses > 36
            assert followed >= 36
        if one.label == "uMCI" and not one.reverted:
            assert followed < 36
        if one.reverted:
            assert truth[name]["last_diagnosis"] == "CN"
    assert labels == {"pMCI", "sMCI", "uMCI"}
    unaffected = [s for s in subjects if s.diagnosis != "MCI"]
    assert all(course_of(s) is None for s in unaffected)
    with (
        (tmp_path / f"sub-{subjects[0].participant}")
        .joinpath(f"sub-{subjects[0].participant}_sessions.tsv")
        .open(newline="") as stream
    ):
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [r["diagnosis"] for r in rows[: len(subjects[0].visits)]] == [
        subjects[0].diagnosis
    ] * len(subjects[0].visits)


def test_scanner_facts_are_inherited_and_the_nearest_wins(tmp_path: Path) -> None:
    image = tmp_path / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_T1w.nii.gz"
    image.parent.mkdir(parents=True)
    image.touch()
    assert scanner_facts(tmp_path, image) == ScannerFacts(None, None)
    (tmp_path / "T1w.json").write_text(
        json.dumps({"Manufacturer": "SIEMENS Healthineers", "MagneticFieldStrength": 1.5})
    )
    assert scanner_facts(tmp_path, image) == ScannerFacts(1.5, "Siemens")
    beside = image.with_name("sub-01_ses-1_T1w.json")
    beside.write_text(
        json.dumps({"MagneticFieldStrength": 3, "Manufacturer": "GE MEDICAL SYSTEMS"})
    )
    assert scanner_facts(tmp_path, image) == ScannerFacts(3.0, "GE")
    beside.write_text(json.dumps({"MagneticFieldStrength": 30000, "Manufacturer": " "}))
    assert scanner_facts(tmp_path, image) == ScannerFacts(None, None)
    beside.write_text("{broken")
    assert scanner_facts(tmp_path, image) == ScannerFacts(1.5, "Siemens")
    beside.unlink()
    outside = tmp_path.parent / f"{tmp_path.name}-outside.json"
    outside.write_text(json.dumps({"MagneticFieldStrength": 7}))
    beside.symlink_to(outside)
    assert scanner_facts(tmp_path, image).field_strength_t == 1.5
