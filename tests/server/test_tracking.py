"""What a tracker is told of a run: the released figures with intervals, once each."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
from pathlib import Path

import pytest
from driver_runs import drive
from looking_federation import LookingTransport, looking_plan, start
from toy_federation import ToyTransport, make_plan, make_run
from typer.testing import CliRunner

from server.checkpoints.run_directory import RunDirectory
from server.cli import app
from server.evaluation.records import ReleaseStore
from server.evaluation.summary import summarise
from server.tracking.story import Story, story_of
from shared_model.errors import SmrfedError

NO_BOARD = importlib.util.find_spec("tensorboard") is None
NO_FLOW = importlib.util.find_spec("mlflow") is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    path, plan = tmp_path_factory.mktemp("tracking") / "run", looking_plan()
    drive(start(path, plan), plan, LookingTransport(plan))
    return RunDirectory.open(path)


def values(story: Story, name: str) -> dict[int, float]:
    return {point.step: point.value for point in story.points if point.name == name}


def test_the_story_is_what_was_released(run: RunDirectory) -> None:
    story = story_of(run)
    assert story.finished
    assert story.facts["plan_digest"] == run.plan.digest
    assert float(story.facts["epsilon"]) > 0
    assert values(story, "participation/accepted") == dict.fromkeys(range(1, 6), 3.0)
    records = [r for r in ReleaseStore(run.path).all() if r.asked.kind == "evaluate"]
    *between, last = records
    for kind, wanted in (("evaluation", between), ("released", [last])):
        for figure in ("macro_auc", "balanced_accuracy"):
            for record in wanted:
                together = summarise(record, run.plan).together
                assert together is not None
                expected = getattr(together, figure)
                name, step = f"{kind}/together/{figure}", record.after_round
                assert values(story, name).get(step) == expected.value
                assert values(story, f"{name}/low")[step] == expected.low
                assert values(story, f"{name}/high")[step] == expected.high
    keys = [(point.name, point.step) for point in story.points]
    assert len(keys) == len(set(keys))


def test_a_longer_story_begins_with_the_shorter_one(tmp_path: Path) -> None:
    plan = looking_plan()
    seen: list[Story] = []
    directory = start(tmp_path / "run", plan)

    def observe(event: object) -> None:
        seen.append(story_of(directory))

    drive(directory, plan, LookingTransport(plan), observer=observe)
    seen.append(story_of(directory))
    assert len({len(story.points) for story in seen}) > 5
    for shorter, longer in itertools.pairwise(seen):
        assert longer.points[: len(shorter.points)] == shorter.points


@pytest.mark.skipif(NO_BOARD, reason="tensorboard is not installed")
def test_tensorboard_reads_back_the_same_figures_however_often(
    run: RunDirectory, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):
        command = ["track", str(run.path), str(tmp_path), "--to", "tensorboard"]
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0
    story = story_of(run)
    board = EventAccumulator(str(tmp_path / story.run), size_guidance={"scalars": 0})
    board.Reload()
    assert set(board.Tags()["scalars"]) == {point.name for point in story.points}
    read = [
        (name, event.step, pytest.approx(event.value, rel=1e-6))
        for name in sorted({point.name for point in story.points})
        for event in board.Scalars(name)
    ]
    told = sorted((point.name, point.step, point.value) for point in story.points)
    assert [(n, s, v) for n, s, v in told] == sorted(read, key=lambda entry: entry[:2])
    assert {"run/text_summary", "plan.json/text_summary"} & set(board.Tags()["tensors"]) or {
        "run",
        "plan.json",
    } <= set(board.Tags()["tensors"])


@pytest.mark.skipif(NO_FLOW, reason="mlflow is not installed")
def test_mlflow_holds_each_figure_once_and_the_plan(run: RunDirectory, tmp_path: Path) -> None:
    for written in (True, False):
        command = ["track", str(run.path), str(tmp_path / "ml"), "--to", "mlflow"]
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert (": 0 figures" not in result.output) == written
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'ml' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(run.plan.name)
    (held,) = client.search_runs([experiment.experiment_id])
    assert held.data.params["plan_digest"] == run.plan.digest
    assert held.info.status == "FINISHED"
    history = client.get_metric_history(held.info.run_id, "released/together/macro_auc/low")
    assert len(history) == 1
    assert [a.path for a in client.list_artifacts(held.info.run_id)] == ["plan.json"]
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.parametrize("target", ["tensorboard", "mlflow"])
def test_a_tracker_that_is_not_installed_is_told_by_number(
    run: RunDirectory, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] in ("tensorboard", "mlflow")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, target, None)
    monkeypatch.delitem(sys.modules, f"server.tracking.{target}", raising=False)
    result = CliRunner().invoke(app, ["track", str(run.path), str(tmp_path), "--to", target])
    assert isinstance(result.exception, SmrfedError)
    assert result.exception.code == "SMR-E708"


@pytest.mark.skipif(NO_BOARD, reason="tensorboard is not installed")
def test_a_folder_that_cannot_be_written(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = CliRunner().invoke(
        app, ["track", str(run.path), str(tmp_path / "file"), "--to", "tensorboard"]
    )
    assert isinstance(result.exception, SmrfedError)
    assert result.exception.code == "SMR-E709"


def test_mode_none_may_show_what_it_released(tmp_path: Path) -> None:
    plan = make_plan("a", "b")
    directory = make_run(tmp_path / "run", plan)
    drive(directory, plan, ToyTransport("a", "b"))
    story = story_of(directory)
    assert "epsilon" not in story.facts
    assert values(story, "participation/site/a") == dict.fromkeys(range(1, 5), 1.0)
