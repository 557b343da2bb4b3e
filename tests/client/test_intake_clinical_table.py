"""Clinical tables as registries export them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from client.intake.clinical_table import ClinicalRows, read_clinical_table, visit_of
from client.intake.options import ClinicalTable, IntakeOptions
from client.intake.pseudonym import normalise_id
from shared_model.errors import SmrfedError


def read(
    tmp_path: Path, content: str | bytes, use_issuer: bool = False, **columns: object
) -> ClinicalRows:
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    named = {"patient_id": "id", "diagnosis": "dx", **columns}
    options = ClinicalTable.model_validate({"path": path, **named})
    return read_clinical_table(
        options, lambda patient, issuer: f"sub-{normalise_id(patient)}{issuer}", use_issuer
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_delimiters_and_encodings_are_found(tmp_path: Path, delimiter: str, encoding: str) -> None:
    lines = ["id,Größe,DX,sex", "007,ä,AD,männlich", "", "8,é,CN,W", ",,,"]
    rows = read(tmp_path, "\r\n".join(lines).replace(",", delimiter).encode(encoding), sex="Sex")
    assert {k: (v[0].diagnosis, v[0].sex) for k, v in rows.visits.items()} == {
        "sub-7": ("AD", "M"),
        "sub-8": ("CN", "F"),
    }
    assert rows.bad == ()


def test_quoted_cells_and_decimal_commas(tmp_path: Path) -> None:
    rows = read(
        tmp_path, 'id;dx;age;cdr;mm\n1;"AD; mixed";71,5;0,5;n/a\n', age="age", numbers=["CDR"],
        mmse="mm",
    )  # fmt: skip
    (visit,) = rows.visits["sub-1"]
    assert (visit.diagnosis, visit.age, visit.numbers) == ("AD; mixed", 71.5, (("cdr", 0.5),))
    assert rows.columns == ("mmse", "cdr")


def test_bad_rows_are_told_by_line_and_never_by_value(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        "id,dx,when,age,sex,mm\n1,AD,2020-01-05,70,M,20\n2,AD,27.11.43,70,M,20\n,AD,2020-01-05,70,M,9\n"
        "4,AD,2020-01-05,700,M,20\n5,AD,2020-01-05,70,Kowalczyk,20\n6,AD\n7,AD,2020-01-05,70,M,99\n"
        "8,AD,2020-01-05,70,M,20\n8,CN,2020-01-05,70,M,20\n8,CN,2021-01-05,70,M,20\n",
        visit_date="when", age="age", sex="sex", mmse="mm",
    )  # fmt: skip
    assert set(rows.visits) - {"sub-8"} == {"sub-1", "sub-7"}
    assert [v.day for v in rows.visits["sub-8"]] == [date(2021, 1, 5)]
    assert {row.kind.code for row in rows.bad} == {"SMR-E257"}
    said = " ".join(row.case for row in rows.bad)
    assert [row.case.split(":")[0] for row in rows.bad] == [
        "line 3", "line 4", "line 5", "line 6", "line 7", "lines 9, 10",
    ]  # fmt: skip
    assert not any(value in said for value in ("27.11", "700", "Kowalczyk"))
    assert rows.warnings == ("1 cells of mmse are no numbers and were left out",)


def test_without_dates_a_patient_has_one_diagnosis(tmp_path: Path) -> None:
    rows = read(tmp_path, "id,dx\n1,AD\n1,ad \n2,CN\n2,AD\n")
    assert len(rows.visits["sub-1"]) == 1
    assert not rows.visits["sub-2"]
    assert [row.name for row in rows.bad] == ["sub-2"]


@pytest.mark.parametrize(
    ("content", "columns", "names"),
    [
        ("id,x\n1,2\n", {}, "dx"),
        ("", {}, "id, dx"),
        ("id,dx,dx\n", {}, "dx"),
        ("id,dx\n", {"age": "years"}, "years"),
        (b"id,dx\n\xff\n", {"encoding": "utf-8"}, "utf-8"),
        (b"id,dx\n\xff\n", {"encoding": "klingon"}, "klingon"),
        ("id,dx\n1,2\n", {"use_issuer": True}, "issuer"),
    ],
)
def test_an_unusable_table_stops(
    tmp_path: Path, content: str | bytes, columns: dict[str, object], names: str
) -> None:
    with pytest.raises(SmrfedError) as caught:
        read(tmp_path, content, **columns)  # type: ignore[arg-type]
    assert caught.value.code == "SMR-E262"
    assert names in str(caught.value.found)


def test_a_scan_belongs_to_the_nearest_visit_within_the_window(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        "id,dx,when\n1,CN,2020-01-01\n1,MCI,2021-01-01\n1,AD,2022-01-01\n2,CN,2020-01-01\n",
        visit_date="when",
    )  # fmt: skip
    visits = rows.visits["sub-1"]

    def found(*day: int) -> str | None:
        visit = visit_of(visits, date(*day), rows.dated, 183)
        return visit and visit.diagnosis

    assert found(2020, 3, 1) == "CN"
    assert found(2020, 12, 1) == "MCI"
    assert found(2022, 6, 30) == "AD"
    assert found(2023, 6, 30) is None
    assert found(2018, 6, 30) is None
    assert visit_of(visits, None, True, 183) is None
    only = visit_of(rows.visits["sub-2"], None, True, 183)
    assert only is not None
    assert only.diagnosis == "CN"


def test_options_are_checked_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    table = {"path": "t.csv", "patient_id": "id", "diagnosis": "dx"}
    options = IntakeOptions.model_validate({"clinical_table": table}, context={"folder": tmp_path})
    assert options.clinical_table is not None
    assert options.clinical_table.path == tmp_path / "t.csv"
    for wrong in ({"numbers": ["age"]}, {"numbers": ["a", "A "]}, {"delimiter": "x"}):
        with pytest.raises(ValidationError):
            ClinicalTable.model_validate({**table, **wrong})
