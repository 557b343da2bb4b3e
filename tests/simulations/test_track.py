"""``smrfed-sim track``: the table of a scenario, arm by arm, as a tracker gets it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shared_model.errors import SmrfedError
from simulations.cli import app
from simulations.scenarios.results import ScenarioResults
from simulations.scenarios.tracking import stories

NO_BOARD = importlib.util.find_spec("tensorboard") is None

FIGURE = {
    "balanced_accuracy": {"value": 0.7, "low": 0.6, "high": 0.8},
    "macro_auc": {"value": 0.9, "low": None, "high": None},
    "by_seed": [0.65, None],
    "patients": 40,
}
RESULTS = ScenarioResults.model_validate(
    {
        "scenario": "main",
        "title": "t",
        "about": "a",
        "command": "smrfed-sim run main",
        "created": "2026-11-21T10:00:00+00:00",
        "commit": None,
        "smrfed": "0.1.0",
        "seeds": [3, 4],
        "folds": [],
        "draws": 100,
        "labels": ["CN", "MCI", "AD"],
        "hospitals": [],
        "arms": [
            {
                "name": "private",
                "title": "t",
                "what": "w",
                "kind": "federated",
                "epsilon": 3.25,
                "repeats": 1,
                "plan": "ab",
                "groups": {"seen": FIGURE, "seen:north": FIGURE | {"macro_auc": None}},
            }
        ],
        "differences": [],
    }
)


def test_an_arm_is_a_run_with_intervals_and_single_seeds() -> None:
    (story,) = stories(RESULTS)
    assert story.facts["epsilon"] == "3.25"
    points = {(p.name, p.step): p.value for p in story.points}
    assert points["seen/balanced_accuracy/low", 0] == 0.6
    assert points["seen/north/balanced_accuracy", 0] == 0.7
    assert points["seen/balanced_accuracy_by_seed", 3] == 0.65
    assert ("seen/balanced_accuracy_by_seed", 4) not in points
    assert ("seen/macro_auc/low", 0) not in points


def test_another_folder_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["track", str(tmp_path), str(tmp_path), "--to", "tensorboard"])
    assert isinstance(result.exception, SmrfedError)
    assert result.exception.code in ("SMR-E708", "SMR-E709")


@pytest.mark.skipif(NO_BOARD, reason="tensorboard is not installed")
def test_the_command_writes_one_folder_per_arm(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(RESULTS.model_dump_json())
    command = ["track", str(tmp_path), str(tmp_path / "board"), "--to", "tensorboard"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0
    (folder,) = (tmp_path / "board").iterdir()
    assert folder.name == "main-private-20261121T100000"
    assert list(folder.glob("events.out.tfevents.*"))
