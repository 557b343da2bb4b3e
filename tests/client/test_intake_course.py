"""The course of MCI from a DICOM archive and a clinical table: months arrive, dates do not."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from dicom_fixture import Identity, Study, write_series
from dicom_protocols import SIEMENS_MPRAGE
from hypothesis import given
from hypothesis import strategies as st
from intake_fixture import KEY, name, table

from client.archive.bids import read_bids_archive
from client.archive.labels import LabelMapping
from client.archive.progression import read_progression
from client.intake.clinical_table import Visit
from client.intake.course import follow_ups, months_after
from client.intake.intake import take_in
from client.intake.options import ClinicalTable, IntakeOptions

PROGRESSED, STABLE, SHORT, HEALTHY = (Identity(one) for one in ("p1", "s1", "u1", "c1"))
LABELS = ("CN", "MCI", "AD")
MAPPING = LabelMapping(values={label: (label,) for label in LABELS})
# Days and months that no other number in the dataset could be mistaken for.
ROWS = """id;when;dx;mmse;age
p1;2013-02-17;MCI;27;71
p1;2011-02-03;CN;29;69
p1;2014-02-21;MCI;26;72
p1;2015-10-11;AD;21;73
s1;2013-03-19;MCI;28;66
s1;2014-09-23;MCI;28;67
s1;2016-04-13;MCI;27;69
u1;2013-05-29;MCI;27;80
u1;2014-11-07;MCI;27;82
c1;2013-06-11;CN;30;64
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return take(tmp_path_factory.mktemp("dated"), ROWS)


def take(tmp_path: Path, rows: str, *, dated: bool = True) -> Path:
    source = tmp_path / "export"
    write_series(source / "p", SIEMENS_MPRAGE, PROGRESSED, Study("20130301"))
    write_series(source / "s", SIEMENS_MPRAGE, STABLE, Study("20130319"))
    write_series(source / "s2", SIEMENS_MPRAGE, STABLE, Study("20140923", number=2))
    write_series(source / "u", SIEMENS_MPRAGE, SHORT, Study("20130529"))
    write_series(source / "c", SIEMENS_MPRAGE, HEALTHY, Study("20130611"))
    (tmp_path / "registry.csv").write_text(rows)
    options = IntakeOptions(
        clinical_table=ClinicalTable(
            path=tmp_path / "registry.csv",
            patient_id="id",
            diagnosis="dx",
            mmse="mmse",
            age="age",
            visit_date="when" if dated else None,
        )
    )
    target = tmp_path / "state" / "bids"
    report = take_in(source, target, options, KEY)
    assert report.exclusions == ()
    return target


def courses(target: Path) -> dict[str, tuple[str, str]]:
    patients = read_bids_archive(target, MAPPING, LABELS)
    first = {patient.id: patient.scans[0].session for patient in patients}
    found = read_progression(target, MAPPING, LABELS, first)
    return {patient: (one.label, one.why) for patient, one in found.items()}


def test_labels_at_36_months_from_dicom_files(target: Path) -> None:
    found = courses(target)
    assert found[name(PROGRESSED)] == ("pMCI", "AD at month 31")
    assert found[name(STABLE)] == ("sMCI", "no AD up to month 37")
    assert found[name(SHORT)] == ("uMCI", "followed up for 17 months only")


def test_visits_without_a_scan_are_rows_with_months_and_the_scans_keep_their_names(
    target: Path,
) -> None:
    progressed = table(target / name(PROGRESSED) / f"{name(PROGRESSED)}_sessions.tsv")
    told = [(r["session_id"], r["months"], r["age"], r["diagnosis"], r["mmse"]) for r in progressed]
    assert told == [
        ("ses-01", "0", "71", "MCI", "27"),
        ("ses-f01", "12", "72", "MCI", "26"),
        ("ses-f02", "31", "73", "AD", "21"),
    ]
    stable = table(target / name(STABLE) / f"{name(STABLE)}_sessions.tsv")
    assert [(r["session_id"], r["months"]) for r in stable] == [
        ("ses-01", "0"), ("ses-02", "18"), ("ses-f01", "37"),
    ]  # fmt: skip
    assert len(read_bids_archive(target, MAPPING, LABELS)) == 4


def test_no_date_is_kept(target: Path) -> None:
    days = [date.fromisoformat(found) for found in re.findall(r"\d{4}-\d\d-\d\d", ROWS)]
    days += [date(2013, 3, 1)]
    spelled = {
        day.strftime(form) for day in days for form in ("%Y%m%d", "%Y-%m-%d", "%d.%m.%Y", "%Y-%m")
    } | {"2011", "2013", "2014", "2015", "2016"}
    texts = [path for path in target.parent.rglob("*") if path.suffix in (".tsv", ".json")]
    assert len(texts) > 6
    for path in texts:
        # Sizes and times of change of the files are numbers of the machine.
        text = re.sub(r"\[\d+, \d+\]", "", path.read_text())
        text = re.sub(r'"(nifti|sidecar|fingerprint)": "[^"]*"', "", text)
        text = re.sub(r"v1\.0\.\d+|[0-9a-f]{16,}", "", text)
        assert [day for day in spelled if day in text] == [], path


def test_one_diagnosis_without_a_date_is_no_stable_course(tmp_path: Path) -> None:
    rows = "id;dx;mmse;age\np1;MCI;27;71\ns1;MCI;28;66\nu1;MCI;29;80\nc1;CN;30;64\n"
    target = take(tmp_path, rows, dated=False)
    stable = table(target / name(STABLE) / f"{name(STABLE)}_sessions.tsv")
    assert [r["months"] for r in stable] == ["0", "18"]
    found = courses(target)
    assert {found[name(one)][0] for one in (PROGRESSED, STABLE, SHORT)} == {"uMCI"}


def visit(line: int, day: date | None, diagnosis: str = "MCI") -> Visit:
    return Visit(line, diagnosis, day, None, None, ())


def test_what_cannot_be_placed_in_time_is_not_written() -> None:
    first = date(2020, 1, 31)
    rows = [visit(2, None), visit(3, date(2019, 1, 1)), visit(4, date(2020, 1, 31)),
            visit(5, date(2023, 1, 31), "AD")]  # fmt: skip
    assert [(one.session, one.months, one.diagnosis) for one in follow_ups(rows, first, {4})] == [
        ("ses-f01", 36, "AD")
    ]
    assert follow_ups(rows, None, set()) == ()
    assert months_after(None, first) is None


@given(st.dates(date(1990, 1, 1), date(2040, 1, 1)), st.integers(0, 3000), st.integers(-3000, 3000))
def test_months_say_nothing_of_the_date_itself(first: date, days: int, shift: int) -> None:
    later = date.fromordinal(first.toordinal() + days)
    moved = [date.fromordinal(day.toordinal() + shift) for day in (first, later)]
    found = months_after(first, later)
    assert found == months_after(*moved)
    assert found == pytest.approx(days / 30.4375, abs=0.5)
