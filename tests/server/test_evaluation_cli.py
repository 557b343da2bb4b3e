"""What the coordinator's commands say about evaluations, calibration and what they cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tomli_w
from driver_runs import drive_on
from looking_federation import BIAS, NAMES, LookingTransport, looking_plan, start
from toy_federation import Answer, ToySite, read
from typer.testing import CliRunner

from server.cli import app
from server.rounds.driver import RunResult
from server.rounds.transport import Failure
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import body_digest, decode_arrays
from shared_model.protocol.sealed import Sealed


def command(*arguments: object) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(
        app, [str(argument) for argument in arguments], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def silent(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    return Failure("the door is closed") if read(message).kind == "evaluate" else reply


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    path, plan = tmp_path_factory.mktemp("cli") / "run", looking_plan()
    return path, drive_on(start(path, plan), LookingTransport(plan, {"c": silent}))


def test_evaluation_shows_every_site_with_intervals(run: tuple[Path, RunResult]) -> None:
    path, _ = run
    text = command("evaluation", path)
    for shown in (
        "a",
        "b",
        "all together",
        "sensitivity, AD",
        "macro AUC",
        "worst site",
        "round 5, calibrated",
        "class biases: CN -",
        "missing: c: SMR-E504",
    ):
        assert shown in text, shown  # fmt: skip
    assert "round 2, 95 % intervals" in command("evaluation", path, "--round", 2)
    with pytest.raises(SmrfedError, match="SMR-E573"):
        command("evaluation", path, "--round", 3)


def test_evaluation_as_json_is_for_scripts(run: tuple[Path, RunResult]) -> None:
    path, result = run
    releases = json.loads(command("evaluation", path, "--json"))
    assert [(r["kind"], r["after_round"]) for r in releases] == [
        ("evaluate", 2), ("evaluate", 4), ("calibrate", 5), ("evaluate", 5),
    ]  # fmt: skip
    last = releases[-1]
    assert last["model_sha256"] == result.sha256
    assert last["accepted"] == ["a", "b"]
    assert set(last["missing"]) == {"c"}
    assert set(last["figures"]["sites"]) == {"a", "b"}
    together = last["figures"]["together"]["balanced_accuracy"]
    assert together["low"] < together["value"] < together["high"]
    assert set(releases[2]["offsets"]) == {"CN", "MCI", "AD"}


def test_status_has_them_in_the_history(run: tuple[Path, RunResult]) -> None:
    path, _ = run
    text = command("status", path)
    for shown in ("2, evaluate", "calibrate", "finalise", "evaluated", "2 of 3"):
        assert shown in text, shown
    facts = json.loads(command("status", path, "--json"))
    assert [r["kind"] for r in facts["releases"]] == [
        "evaluate", "evaluate", "calibrate", "evaluate",
    ]  # fmt: skip


def test_status_says_when_rounds_ended_early(tmp_path: Path) -> None:
    plan = looking_plan(rounds=9, every=1, patience=2)
    drive_on(start(tmp_path / "run", plan), LookingTransport(plan, plateau=1))
    assert "ended early" in command("status", tmp_path / "run")


def test_the_exported_model_is_the_calibrated_one(
    run: tuple[Path, RunResult], tmp_path: Path
) -> None:
    path, result = run
    out = tmp_path / "model.safetensors"
    assert result.sha256 in command("export", path, out)
    assert body_digest(out.read_bytes()) == result.sha256
    assert decode_arrays(out.read_bytes())[BIAS].any()


def test_a_run_without_evaluations_says_so(tmp_path: Path) -> None:
    start(tmp_path / "run", looking_plan())
    with pytest.raises(SmrfedError, match="SMR-E573"):
        command("evaluation", tmp_path / "run")
    assert json.loads(command("evaluation", tmp_path / "run", "--json")) == []


def test_plan_show_prices_every_release(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(tomli_w.dumps(looking_plan().model_dump(mode="json", exclude_none=True)))
    facts = json.loads(command("plan", "show", file, "--json"))
    costs = {cost["purpose"]: cost for cost in facts["releases"]}
    assert {p: (c["count"], c["patients"]) for p, c in costs.items()} == {
        "train": (5, "training"),
        "calibrate": (1, "training"),
        "evaluate": (3, "test"),
    }
    # Test patients are on no other side: here they pay more than the training patients do.
    assert facts["epsilon"] == pytest.approx(costs["evaluate"]["epsilon"])
    assert costs["calibrate"]["epsilon"] < costs["train"]["epsilon"] < facts["epsilon"]
    text = command("plan", "show", file)
    assert "for the worst patient" in text
    assert f"{costs['evaluate']['epsilon']:.3f}" in text
    assert "balanced accuracy within 0.16 over all sites" in text
    assert "needs 48 training patients of each class; there are about 100" in text
    assert len(NAMES) == 3
