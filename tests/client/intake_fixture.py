"""An intake of a tree of DICOM files, and two patients."""

from __future__ import annotations

from pathlib import Path

from dicom_fixture import Identity

from client.intake.intake import take_in
from client.intake.options import IntakeOptions
from client.intake.pseudonym import pseudonym
from client.intake.report import IntakeReport

KEY = bytes(range(32))
ANNA, BERT = Identity("0042", birth_date="19500310"), Identity("77 a", sex="M", age="071Y")
OPTIONS = IntakeOptions(workers=2)


def intake(tmp_path: Path, options: IntakeOptions = OPTIONS) -> IntakeReport:
    return take_in(tmp_path / "export", tmp_path / "state" / "bids", options, KEY)


def images(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "state" / "bids").glob("sub-*/ses-*/anat/*_T1w.nii.gz"))


def table(path: Path) -> list[dict[str, str]]:
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


def name(person: Identity) -> str:
    return pseudonym(KEY, person.patient_id)
