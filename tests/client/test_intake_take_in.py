"""From folders of DICOM files to a BIDS dataset, with real files and the real converter."""

from __future__ import annotations

import gzip
import json
import stat
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from bids_fixture import LABELS
from dicom_fixture import Identity, Study, head, write_series
from dicom_protocols import (
    CT,
    GE_BRAVO,
    LOCALIZER,
    MPR_DERIVED,
    PHILIPS_TFE,
    POST_CONTRAST,
    SIEMENS_MPRAGE,
    SPACING_MM,
    T2_FLAIR,
    UIH_GRE_FSP,
)
from intake_fixture import ANNA, BERT, KEY, OPTIONS, images, intake, name, table

from client.archive.bids import survey_bids_archive
from client.archive.labels import LabelMapping
from client.intake.intake import take_in
from client.intake.options import ClinicalTable, IntakeOptions
from client.intake.pseudonym import pseudonym
from client.intake.report import IntakeReport
from shared_model.grid import ModelGrid


@pytest.mark.parametrize("enhanced", [False, True], ids=["slices", "enhanced"])
def test_voxels_lie_where_the_scanner_put_them(tmp_path: Path, enhanced: bool) -> None:
    write_series(tmp_path / "export", SIEMENS_MPRAGE, ANNA, enhanced=enhanced)
    report = intake(tmp_path)
    assert (report.images, report.converted, report.exclusions) == (1, 1, ())
    (path,) = images(tmp_path)
    image = nibabel.as_closest_canonical(nibabel.load(path))
    assert np.array_equal(image.get_fdata(), head(ANNA.patient_id))
    assert image.affine == pytest.approx(ModelGrid(spacing_mm=SPACING_MM).affine, abs=1e-3)


def test_a_tree_as_a_hospital_has_it(tmp_path: Path) -> None:
    root = tmp_path / "export"
    write_series(root / "DICOM" / "0000A", LOCALIZER, ANNA)
    write_series(root / "DICOM" / "0000A", T2_FLAIR, ANNA)
    write_series(root / "DICOM" / "0000A", SIEMENS_MPRAGE, ANNA)
    write_series(root / "DICOM" / "0000A", MPR_DERIVED, ANNA)
    write_series(root / "old" / "deep" / "down", GE_BRAVO, BERT, preamble=False)
    write_series(root / "old", PHILIPS_TFE, BERT, Study("20220101"), naming="uid")
    write_series(root / "flat", UIH_GRE_FSP, Identity("u"), Study("***"), naming="IMA")
    (root / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM and more")
    (root / "read me.txt").write_text("notes" * 100)
    (root / "notes without extension").write_text("notes" * 100)
    (root / "backup.tar.gz").write_bytes(gzip.compress(b"not unpacked" * 100))
    report = intake(tmp_path)
    assert report.exclusions == ()
    assert report.other_files == 1
    sessions = {(s.subject, s.session): s for s in report.sessions}
    assert set(sessions) == {
        (name(ANNA), "ses-01"),
        (name(BERT), "ses-01"),
        (name(BERT), "ses-02"),
        (name(Identity("u")), "ses-01"),
    }
    chosen = {
        key: next(one.number for one in session.series if one.chosen)
        for key, session in sessions.items()
    }
    assert sorted(chosen.values()) == [3, 4, 5, 301]
    assert chosen[name(ANNA), "ses-01"] == SIEMENS_MPRAGE.number
    assert sessions[name(ANNA), "ses-01"].age == "70"  # by birth date, on 15 June 2020
    assert sessions[name(BERT), "ses-01"].age == "71"  # by the header's age
    assert sessions[name(Identity("u")), "ses-01"].warnings == ("no valid date",)
    assert len(images(tmp_path)) == 4


def test_sessions_are_in_the_order_of_dates_or_else_of_numbers(tmp_path: Path) -> None:
    root = tmp_path / "export"
    for number, date in ((1, "20210505"), (2, "20190101"), (3, "20210505")):
        study = Study(date, time="1200" if number == 1 else "0900", number=number)
        write_series(root / str(number), SIEMENS_MPRAGE.with_tags(number), ANNA, study)
    for number, date in ((8, "20210505"), (6, "***")):
        study = Study(date, number=number)
        write_series(root / f"b{number}", GE_BRAVO.with_tags(number), BERT, study)
    report = intake(tmp_path)
    order = [(s.subject, s.session, s.series[0].number) for s in report.sessions]
    assert [n for subject, _, n in order if subject == name(ANNA)] == [2, 3, 1]
    assert [n for subject, _, n in order if subject == name(BERT)] == [6, 8]
    undated = [s.warnings for s in report.sessions if s.subject == name(BERT)]
    assert all("order of series numbers" in warnings[0] for warnings in undated)


def test_the_dataset_is_one_that_the_archive_reads(tmp_path: Path) -> None:
    root = tmp_path / "export"
    write_series(root / "a", SIEMENS_MPRAGE, ANNA)
    write_series(root / "b", GE_BRAVO, BERT)
    write_series(root / "b2", GE_BRAVO, BERT, Study("20210801"))
    clinical = tmp_path / "table.csv"
    clinical.write_text(
        "PatID;Dx;Datum;Alter;MMST\n"
        "42;CN;15.06.2020;70;29\n77 A;MCI;2020-06-01;71;26\n77 A;AD;01.09.2021;72;n/a\n"
        "999;AD;2020-06-01;72;19\n"
    )
    options = ClinicalTable(
        path=clinical, patient_id="patid", diagnosis="DX", visit_date="Datum", age="Alter",
        mmse="MMST",
    )  # fmt: skip
    report = intake(tmp_path, IntakeOptions(clinical_table=options))
    assert report.rows_without_images == 1
    target = tmp_path / "state" / "bids"
    assert table(target / "participants.tsv") == [
        {"participant_id": n, "age": age, "sex": sex, "diagnosis": dx, "mmse": mmse}
        for n, age, sex, dx, mmse in sorted(
            [(name(ANNA), "70", "F", "CN", "29"), (name(BERT), "71", "M", "MCI", "26")]
        )
    ]
    assert [row["mmse"] for row in table(target / name(BERT) / f"{name(BERT)}_sessions.tsv")] == [
        "26",
        "n/a",
    ]
    mapping = LabelMapping(values={label: (label,) for label in LABELS})
    survey = survey_bids_archive(target, mapping, LABELS)
    assert survey.exclusions == ()
    labels = {p.id: [s.label for s in p.scans] for p in survey.patients}
    assert labels == {name(ANNA): [0], name(BERT): [1, 2]}


def test_nothing_is_converted_twice_and_nothing_stays_that_has_left(tmp_path: Path) -> None:
    root = tmp_path / "export"
    write_series(root / "a", SIEMENS_MPRAGE, ANNA, Study("20200101"))
    write_series(root / "b", GE_BRAVO, BERT)
    assert intake(tmp_path).converted == 2
    before = {path: path.stat().st_ino for path in images(tmp_path)}
    again = intake(tmp_path)
    assert (again.converted, again.kept) == (0, 2)
    # An earlier study comes in: the known one becomes the second session, without a conversion.
    write_series(root / "c", SIEMENS_MPRAGE, ANNA, Study("20150101"))
    later = intake(tmp_path)
    assert (later.converted, later.kept) == (1, 2)
    inodes = {path.parts[-3]: path.stat().st_ino for path in images(tmp_path)}
    assert inodes["ses-02"] in before.values()
    # A patient withdraws: files, scans and what was kept of them go.
    for path in (root / "b").iterdir():
        path.unlink()
    intake(tmp_path)
    assert {path.parts[-4] for path in images(tmp_path)} == {name(ANNA)}
    assert len(list((tmp_path / "state" / "bids.converted").glob("*.nii.gz"))) == 2


def test_a_damaged_dataset_is_made_again_from_what_is_kept(tmp_path: Path) -> None:
    write_series(tmp_path / "export", SIEMENS_MPRAGE, ANNA)
    intake(tmp_path)
    images(tmp_path)[0].unlink()
    report = intake(tmp_path)
    assert (report.converted, report.kept, len(images(tmp_path))) == (0, 1, 1)


def test_files_are_the_owners_and_hold_no_text(tmp_path: Path) -> None:
    write_series(tmp_path / "export", SIEMENS_MPRAGE, ANNA)
    intake(tmp_path)
    for path in (tmp_path / "state").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    (path,) = images(tmp_path)
    header = nibabel.load(path).header
    texts = ("descrip", "aux_file", "db_name", "intent_name", "data_type")
    assert {bytes(header[field]).strip(b"\0") for field in texts} == {b""}
    assert header.extensions == []
    assert set(json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())) <= {
        "Modality", "VoxelSizeMm", "MagneticFieldStrength", "EchoTime", "RepetitionTime",
        "InversionTime", "FlipAngle", "SliceThickness", "Manufacturer", "ManufacturersModelName",
        "MRAcquisitionType", "ImageType", "ConversionSoftware", "ConversionSoftwareVersion",
        "DeviceHash",
    }  # fmt: skip


def codes(report: IntakeReport) -> dict[str, str]:
    return {exclusion.subject: exclusion.code for exclusion in report.exclusions}


def test_what_cannot_be_used_is_excluded_by_number_and_the_rest_is_taken(tmp_path: Path) -> None:
    root = tmp_path / "export"
    people = {key: Identity(key) for key in ("no t1", "gaps", "two", "ct", "derived", "good")}
    write_series(root / "1", T2_FLAIR, people["no t1"])
    write_series(root / "2", SIEMENS_MPRAGE, people["gaps"], missing={40})
    write_series(root / "3", SIEMENS_MPRAGE, people["two"])
    other = replace(people["two"], birth_date="19600101")
    write_series(root / "4", SIEMENS_MPRAGE, other, Study("20210101"))
    write_series(root / "5", CT, people["ct"])
    write_series(root / "6", MPR_DERIVED, people["derived"])
    write_series(root / "7", replace(SIEMENS_MPRAGE, slices=3), Identity(""))
    good = write_series(root / "8", SIEMENS_MPRAGE, people["good"])
    damaged = bytearray(good[0].read_bytes())
    damaged[132:200] = b"\xff" * 68
    (root / "8" / "damaged").write_bytes(damaged)
    report = intake(tmp_path)
    assert codes(report) == {
        name(people["no t1"]): "SMR-E250",
        name(people["gaps"]): "SMR-E255",
        name(people["two"]): "SMR-E253",
        name(people["ct"]): "SMR-E250",
        "": "SMR-E252",
    }
    assert {e.code for e in report.exclusions if not e.subject} == {"SMR-E252", "SMR-E254"}
    taken = {s.subject: s for s in report.sessions if s.image}
    assert set(taken) == {name(people["derived"]), name(people["good"])}
    assert "derived" in taken[name(people["derived"])].warnings[0]
    assert taken[name(people["good"])].warnings == ()


def test_one_scan_under_two_identifiers_is_found_by_the_archive(tmp_path: Path) -> None:
    root = tmp_path / "export"
    for path in write_series(root / "a", SIEMENS_MPRAGE, ANNA):
        (root / "b").mkdir(exist_ok=True)
        (root / "b" / path.name).write_bytes(path.read_bytes().replace(b"0042", b"0043", 1))
    write_series(root / "c", GE_BRAVO, BERT)
    write_series(root / "d", GE_BRAVO, Identity("9"))
    clinical = tmp_path / "table.csv"
    clinical.write_text("id,dx\n42,CN\n43,AD\n77 a,CN\n9,AD\n")
    options = ClinicalTable(path=clinical, patient_id="id", diagnosis="dx")
    assert intake(tmp_path, IntakeOptions(clinical_table=options)).images == 4
    mapping = LabelMapping(values={label: (label,) for label in LABELS})
    survey = survey_bids_archive(tmp_path / "state" / "bids", mapping, LABELS)
    assert {(e.code, e.subject) for e in survey.exclusions} == {
        ("SMR-E218", name(ANNA)),
        ("SMR-E218", pseudonym(KEY, "0043")),
    }
    assert len(survey.patients) == 2


def test_a_contrast_agent_is_the_last_choice_and_is_told(tmp_path: Path) -> None:
    write_series(tmp_path / "export", POST_CONTRAST, ANNA)
    (session,) = intake(tmp_path).sessions
    assert session.image is not None
    assert "contrast agent" in session.warnings[0]


def test_a_series_that_cannot_be_converted_leaves_the_next_one(tmp_path: Path) -> None:
    root = tmp_path / "export"
    bad = write_series(root / "a", SIEMENS_MPRAGE, ANNA)
    for path in bad:
        # Says that it is compressed, and is not: headers and sizes look well.
        content = path.read_bytes()
        path.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    write_series(root / "b", MPR_DERIVED, ANNA)
    report = intake(tmp_path)
    assert [e.code for e in report.exclusions] == ["SMR-E251"]
    (session,) = report.sessions
    assert [one.number for one in session.series if one.chosen] == [MPR_DERIVED.number]


def test_the_same_patient_has_the_same_name_in_every_tree(tmp_path: Path) -> None:
    folders = []
    for number, written in enumerate(("0042", " 42", "00042 ")):
        here = tmp_path / str(number)
        write_series(here / "export", SIEMENS_MPRAGE, replace(ANNA, patient_id=written))
        folders += [s.subject for s in intake(here).sessions]
    assert len(set(folders)) == 1
    other = take_in(tmp_path / "0" / "export", tmp_path / "x" / "bids", OPTIONS, b"k" * 32)
    assert {s.subject for s in other.sessions}.isdisjoint(folders)


def test_issuers_tell_people_apart_where_the_site_says_so(tmp_path: Path) -> None:
    root = tmp_path / "export"
    write_series(root / "a", SIEMENS_MPRAGE, replace(ANNA, issuer="North"))
    south = replace(ANNA, issuer="South", birth_date="19600101")
    write_series(root / "b", SIEMENS_MPRAGE, south)
    assert [e.code for e in intake(tmp_path).exclusions] == ["SMR-E253"]
    report = intake(tmp_path, IntakeOptions(use_issuer=True))
    assert (report.images, report.exclusions) == (2, ())


def test_the_report_survives_its_file(tmp_path: Path) -> None:
    root = tmp_path / "export"
    write_series(root / "a", SIEMENS_MPRAGE, ANNA)
    write_series(root / "b", T2_FLAIR, BERT)
    report = intake(tmp_path)
    assert report.exclusions
    assert IntakeReport.from_json(json.loads(json.dumps(report.to_json()))) == report
