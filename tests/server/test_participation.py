"""Whose patients are in a model is said wherever a result is shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from driver_runs import drive_on
from looking_federation import LookingTransport, looking_plan, start
from toy_federation import Answer, ToySite, read
from typer.testing import CliRunner

from server.checkpoints.run_directory import RunDirectory
from server.cli import app
from server.rounds.participation import participation, participation_of, share_in_words
from server.rounds.records import RoundRecord, SiteOutcome
from server.rounds.transport import Failure
from shared_model.plan import FederationPlan
from shared_model.protocol.sealed import Sealed

# b is by far the largest, and falls out after round 2.
SITES = [
    {"name": "a", "declared_patients": 100},
    {"name": "b", "declared_patients": 300},
    {"name": "c", "declared_patients": 100},
]
WARNING = (
    "b (60 % of the declared patients, the largest hospital) counted in 2 of 5 rounds and in none "
    "after round 2: SMR-E504"
)


def falls_out(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    return reply if read(message).round < 3 else Failure("the courier failed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    plan = looking_plan(federation={"sites": SITES})
    directory = start(tmp_path_factory.mktemp("partial") / "run", plan)
    drive_on(directory, LookingTransport(plan, {"b": falls_out}))
    return directory


def say(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    return re.sub(r"\s+", " ", result.output)


def test_the_largest_hospital_that_fell_out_is_named_with_its_share(run: RunDirectory) -> None:
    found = participation(run)
    assert found.contributed == (500, 500, 200, 200, 200)
    (warning,) = found.warnings
    assert warning.startswith(WARNING)
    b = found.sites[1]
    assert (b.rounds, b.asked, b.last_round, b.missing) == (2, 5, 2, 3)
    assert found.in_words == (
        "2 of 3 hospitals counted in all of 5 rounds; of 500 declared patients 320 stood behind a "
        "round on average, 200 at least"
    )


def test_status_says_it(run: RunDirectory) -> None:
    text = say("status", str(run.path))
    assert f"WARNING: {WARNING}" in text
    assert "2 of 3 hospitals counted in all of 5 rounds" in text
    facts = json.loads(say("status", str(run.path), "--json"))
    assert facts["participation"]["warnings"][0].startswith(WARNING)
    assert facts["wanted"] is None


def test_evaluation_says_it_and_whose_test_patients_answered(run: RunDirectory) -> None:
    text = say("evaluation", str(run.path))
    assert f"WARNING, training: {WARNING}" in text
    assert "2 of 3 hospitals, with 40 % of the declared patients" in text
    (last,) = [
        one
        for one in json.loads(say("evaluation", str(run.path), "--json"))
        if one["kind"] == "evaluate" and one["after_round"] == 5
    ]
    assert last["answered"] == "2 of 3 hospitals, with 40 % of the declared patients"
    assert "b" in last["missing"]


def test_report_and_model_card_say_it(run: RunDirectory, tmp_path: Path) -> None:
    say("report", str(run.path), "--out", str(tmp_path))
    card = (tmp_path / "model_card.md").read_text()
    assert f"WARNING: {WARNING}" in card
    assert "2 of 5" in card
    page = re.sub(r"\s+", " ", (tmp_path / "report.html").read_text())
    assert page.count("the largest hospital) counted in 2 of 5 rounds") >= 2
    assert "with 40 % of the declared patients" in page
    facts = json.loads((tmp_path / "report.json").read_text())
    assert facts["shares"]["warnings"][0].startswith(WARNING)
    assert facts["evaluations"][-1]["answered"].startswith("2 of 3 hospitals")


def test_an_exported_model_carries_it(run: RunDirectory, tmp_path: Path) -> None:
    text = say("export", str(run.path), str(tmp_path / "model"))
    assert f"WARNING: {WARNING}" in text
    facts = json.loads((tmp_path / "model" / "participation.json").read_text())
    assert facts["warnings"][0].startswith(WARNING)
    assert f"WARNING: {WARNING}" in say("export", str(run.path), str(tmp_path / "m.safetensors"))


def record(number: int, accepted: str, asked: str = "ab") -> RoundRecord:
    outcomes = {
        name: SiteOutcome(accepted=name in accepted, pushes=1, code="SMR-E503", reason="silence")
        for name in asked
    }
    return RoundRecord(
        round=number, kind="train", sites=outcomes, attempts=1, weight=1, started_at="", seconds=1
    )


def plan_of(*names: str) -> FederationPlan:
    sites = [{"name": name, "declared_patients": 100} for name in names]
    return looking_plan(federation={"sites": sites})


def test_one_missed_round_of_many_is_no_warning_and_never_counting_is() -> None:
    ten = [record(n, "b" if n == 4 else "ab") for n in range(1, 11)]
    assert participation_of(plan_of("a", "b"), ten).warnings == ()
    never = [record(n, "b") for n in range(1, 4)]
    (warning,) = participation_of(plan_of("a", "b"), never).warnings
    assert "counted in none of 3 rounds: SMR-E503 silence" in warning


def test_a_hospital_that_came_later_is_measured_from_then_on() -> None:
    history = [record(n, "ab") for n in (1, 2, 3)] + [record(n, "abc", "abc") for n in (4, 5)]
    found = participation_of(plan_of("a", "b", "c"), history)
    assert found.warnings == ()
    assert (found.sites[2].rounds, found.sites[2].asked) == (2, 2)


def test_a_share_is_never_rounded_to_all_or_nothing() -> None:
    sites = [{"name": "a", "declared_patients": 1}, {"name": "b", "declared_patients": 9999}]
    plan = looking_plan(federation={"sites": sites})
    assert "with 1 % of" in share_in_words(["a"], plan)
    assert "with 99 % of" in share_in_words(["b"], plan)
    assert "with 100 % of" in share_in_words(["a", "b"], plan)
