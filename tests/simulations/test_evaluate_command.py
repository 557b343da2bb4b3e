"""``smrfed-sim evaluate``: tables in, document, page, tables and card out; mistakes by number."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prediction_tables import drawn_arms, drawn_table
from typer.testing import CliRunner

from shared_model.errors import SmrfedError
from shared_model.evaluation.results import UNSEEN
from shared_model.evaluation.table_file import write_csv
from shared_model.evaluation.writing import read_evaluation
from simulations.cli import app


def run(*arguments: object) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(
        app, ["evaluate", *map(str, arguments)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def tables(tmp_path: Path) -> list[Path]:
    out = []
    for key, table in drawn_arms().items():
        out.append(tmp_path / f"{key}.csv")
        write_csv(table, out[-1])
    return out


def test_it_writes_everything_and_says_what_is_shown(tables: list[Path], tmp_path: Path) -> None:
    names = tmp_path / "trained_on.txt"
    names.write_text("site-a/other\n")
    text = run(
        *tables, "--out", tmp_path / "out", "--draws", 100, "--headline", "federated",
        "--trained-on", names, "--synthetic", "--prevalence", "screening=0.9,0.06,0.04",
    )  # fmt: skip
    assert "Does every hospital gain" in text
    document = read_evaluation(tmp_path / "out" / "evaluation.json")
    assert document.headline == "federated"
    assert document.alone == "alone"
    assert {p.name for p in document.prevalence} == {"screening"}
    assert document.overlap.trained_on == 1
    for name in ("evaluation.html", "evaluation.csv", "model_card.md"):
        assert (tmp_path / "out" / name).stat().st_size > 1000
    told = json.loads(run(*tables, "--out", tmp_path / "two", "--draws", 100, "--json"))
    assert Path(told["page"]).exists()


def test_files_of_one_name_are_folds_that_left_one_hospital_out(tmp_path: Path) -> None:
    paths = []
    for number, left_out in enumerate(("site-a", "site-b", "site-c")):
        fold = drawn_table(1.5, seed=number).at("site-a", "site-b", "site-c")
        fold = replace(fold, seen=np.array([site != left_out for site in fold.site]))
        paths.append(tmp_path / left_out / "federated.csv")
        write_csv(fold, paths[-1])
    run(*paths, "--out", tmp_path / "out", "--draws", 100)
    document = read_evaluation(tmp_path / "out" / "evaluation.json")
    (arm,) = document.arms
    assert set(arm.groups) == {UNSEEN, "site-a", "site-b", "site-c"}
    (spread,) = [s for s in arm.spread if s.metric == "balanced_accuracy"]
    assert spread.sites == 3
    assert spread.worst_site in ("site-a", "site-b", "site-c")


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("SMR-E616", ["--headline", "nobody"]),
        ("SMR-E616", ["--prevalence", "x=0.5"]),
        ("SMR-E616", ["--prevalence", "x=a,b,c"]),
        ("SMR-E610", ["--trained-on", "nowhere.txt"]),
    ],
)
def test_a_wrong_request_is_told_by_number(
    tables: list[Path], tmp_path: Path, code: str, extra: list[str]
) -> None:
    with pytest.raises(SmrfedError, match=code):
        run(*tables, "--out", tmp_path / "out", "--draws", 100, *extra)


def test_arms_with_other_patients_and_trained_on_patients_are_refused(
    tables: list[Path], tmp_path: Path
) -> None:
    lines = tables[0].read_text().splitlines()
    names = tmp_path / "names.txt"
    names.write_text(lines[1].split(",")[0])
    with pytest.raises(SmrfedError, match="SMR-E615"):
        run(*tables, "--out", tmp_path / "out", "--trained-on", names)
    tables[0].write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(SmrfedError, match="SMR-E614"):
        run(*tables, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_can_be_written_into_a_file(tables: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(SmrfedError, match="SMR-E617"):
        run(*tables, "--out", tmp_path / "out", "--draws", 100)
