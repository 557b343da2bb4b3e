"""Clinical values of a hospital's tables, as a plan asks for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from bids_fixture import LABELS, people, write_bids

from client.archive.bids import read_bids_archive
from client.archive.clinical import clinical_values
from client.archive.labels import ColumnNames, LabelMapping
from client.archive.patients import Patient
from shared_model.clinical.encoding import Value
from shared_model.clinical.section import ClinicalSection, ClinicalVariable
from shared_model.errors import SmrfedError

FULL = ClinicalSection(mode="with-mmse")


def add_columns(root: Path, columns: dict[str, list[str]]) -> None:
    """Further columns of participants.tsv, their values in turn."""
    table = root / "participants.tsv"
    head, *rows = table.read_text().splitlines()
    lines = ["\t".join([head, *columns])]
    for number, row in enumerate(rows):
        lines.append("\t".join([row, *(v[number % len(v)] for v in columns.values())]))
    table.write_text("\n".join(lines) + "\n")


def read(root: Path, columns: ColumnNames | None = None) -> tuple[Patient, ...]:
    mapping = LabelMapping(values={label: (label,) for label in LABELS})
    chosen = columns or ColumnNames()
    return read_bids_archive(root, mapping.model_copy(update={"columns": chosen}), LABELS)


def values(
    patient: Patient, section: ClinicalSection, columns: ColumnNames | None = None
) -> dict[str, Value]:
    return clinical_values(section, columns or ColumnNames(), patient, patient.scans[0])


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = write_bids(tmp_path / "archive", *people(4))
    add_columns(
        root,
        {
            "Education": ["16", "n/a", "12", "8"],
            "apoe_e4": ["0", "1", "2", ""],
            "MMSE": ["29", "24.5", "n/a", "21"],
            "hand": ["R", "L", "n/a", "both"],
        },
    )
    return root


def test_usual_columns_are_found_by_themselves(archive: Path) -> None:
    patients = read(archive)
    assert [values(p, FULL) for p in patients] == [
        {"age": 60.0, "sex": "F", "education": 16.0, "apoe4": 0.0, "mmse": 29.0},
        {"age": 61.0, "sex": "M", "education": None, "apoe4": 1.0, "mmse": 24.5},
        {"age": 62.0, "sex": "F", "education": 12.0, "apoe4": 2.0, "mmse": None},
        {"age": 63.0, "sex": "M", "education": 8.0, "apoe4": None, "mmse": 21.0},
    ]


def test_a_visit_has_its_own_value(tmp_path: Path) -> None:
    root = write_bids(tmp_path / "archive", *people(4))
    add_columns(root, {"education": ["12"]})
    table = next(root.rglob("*_sessions.tsv"))
    head, first, second = table.read_text().splitlines()
    table.write_text("\n".join([f"{head}\tmmse", f"{first}\t27", f"{second}\t22"]) + "\n")
    (patient,) = [p for p in read(root) if len(p.scans) == 2]
    section = ClinicalSection(mode="with-mmse", variables=(ClinicalVariable(name="mmse"),))
    found = [clinical_values(section, ColumnNames(), patient, scan) for scan in patient.scans]
    assert found == [{"mmse": 27.0}, {"mmse": 22.0}]


def test_a_column_by_another_name_and_one_of_words(archive: Path) -> None:
    columns = ColumnNames(clinical={"handedness": "HAND", "school": "education"})
    section = ClinicalSection(
        mode="without-cognition",
        variables=(
            ClinicalVariable(name="handedness", kind="category", categories=("L", "R")),
            ClinicalVariable(name="school"),
        ),
    )
    found = [values(p, section, columns) for p in read(archive, columns)]
    assert [f["handedness"] for f in found] == ["R", "L", None, "both"]
    assert [f["school"] for f in found] == [16.0, None, 12.0, 8.0]


def test_a_named_column_must_be_there(archive: Path) -> None:
    with pytest.raises(SmrfedError, match="no years_of_school"):
        read(archive, ColumnNames(clinical={"education": "years_of_school"}))


def test_what_is_not_there_is_refused_unless_the_hospital_says_so(tmp_path: Path) -> None:
    (patient, *_) = read(write_bids(tmp_path / "archive", *people(4)))
    with pytest.raises(SmrfedError, match="education") as caught:
        values(patient, FULL)
    assert caught.value.code == "SMR-E237"
    lacking = ColumnNames(not_collected=("education", "APOE4", "mmse"))
    assert values(patient, FULL, lacking) == {
        "age": 60.0, "sex": "F", "education": None, "apoe4": None, "mmse": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "code"),
    [("sixteen", "SMR-E238"), ("nan", "SMR-E238"), ("192", "SMR-E239"), ("-1", "SMR-E239")],
)
def test_a_value_that_is_no_number_or_out_of_range(tmp_path: Path, text: str, code: str) -> None:
    root = write_bids(tmp_path / "archive", *people(4))
    add_columns(root, {"education": [text], "apoe4": ["0"]})
    (patient, *_) = read(root)
    with pytest.raises(SmrfedError) as caught:
        values(patient, ClinicalSection(mode="without-cognition"))
    assert caught.value.code == code
    assert patient.id in str(caught.value)
