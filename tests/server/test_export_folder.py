"""A finished run as a folder that an unseen hospital can adapt: plan, model and moments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from driver_runs import drive_on
from looking_federation import LEAN, LookingTransport, looking_plan, start
from typer.testing import CliRunner

from server.checkpoints.run_directory import RunDirectory
from server.cli import app
from server.evaluation.records import ReleaseStore
from server.rounds.releases import released_body
from shared_model.adaptation.scores import basis
from shared_model.exported import ADAPTATION, ExportedModel
from shared_model.protocol.arrays import body_digest


def finished(path: Path, **calibration: object) -> RunDirectory:
    section = {"rule": "prior_free", "noise_multiplier": 1.0, "unseen_sites": True} | calibration
    plan = looking_plan(rounds=3, every=0, calibration=section)
    directory = start(path, plan)
    drive_on(directory, LookingTransport(plan))
    return directory


def export(run: Path, folder: Path) -> str:
    result = CliRunner().invoke(app, ["export", str(run), str(folder)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return finished(tmp_path_factory.mktemp("run") / "run")


def test_the_folder_holds_model_plan_and_moments(run: RunDirectory, tmp_path: Path) -> None:
    output = export(run.path, tmp_path / "model")
    assert "without moments" not in output
    found = ExportedModel.read(tmp_path / "model")
    assert found.plan == run.plan
    assert found.sha256 == body_digest(released_body(run))
    assert found.moments is not None
    assert found.moments.sites == 3
    # 90 patients at each of three sites, and noise.
    assert found.moments.patients == pytest.approx(270, abs=30)
    np.testing.assert_allclose(found.moments.prevalence, 1 / 3, atol=0.15)


def test_the_means_know_of_the_decision_rule(run: RunDirectory, tmp_path: Path) -> None:
    """The sites' model leans to a class; what is exported has the lean taken out of the means."""
    export(run.path, tmp_path / "model")
    moments = ExportedModel.read(tmp_path / "model").moments
    record = ReleaseStore(run.path).find("calibrate", run.plan.training.rounds)
    assert moments is not None
    assert record is not None
    assert record.offsets is not None
    lean = np.array(LEAN) @ basis(3)
    centre = np.array(moments.means)[:, :2].mean(0)
    assert np.linalg.norm(centre) < np.linalg.norm(lean) - 0.5
    np.testing.assert_allclose(centre - np.array(record.offsets) @ basis(3), lean, atol=0.6)


def test_without_the_release_the_reason_is_told(tmp_path: Path) -> None:
    directory = finished(tmp_path / "run", unseen_sites=False)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / ADAPTATION).write_text("of an older export")
    assert "without moments" in export(directory.path, tmp_path / "model")
    assert ExportedModel.read(tmp_path / "model").moments is None


def test_moments_alone_need_no_decision_rule(tmp_path: Path) -> None:
    directory = finished(tmp_path / "run", rule="argmax")
    record = ReleaseStore(directory.path).find("calibrate", 3)
    assert record is not None
    assert record.offsets is None
    assert released_body(directory) == directory.latest().release_body
    export(directory.path, tmp_path / "model")
    assert ExportedModel.read(tmp_path / "model").moments is not None


def test_a_file_name_still_gives_the_parameters_alone(run: RunDirectory, tmp_path: Path) -> None:
    export(run.path, tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == released_body(run)
