"""Two hospitals train each model of lesions through their real agents, and evaluate it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lesion_site import LABELS, MODELS, lesion_plan, stay_in_this_process, write_lesions
from typer.testing import CliRunner

from client.agent.agent import SiteAgent
from client.agent.final_model import EVALUATION, GLOBAL, SITE
from client.agent.state import StateFolder
from client.cli import app
from client.config import SiteConfig
from client.privacy.ledger import Ledger
from client.training.site_model import SiteModel
from server.export import export_folder
from server.report.command import report as report_command
from shared_model.atlas.select import load_atlas
from shared_model.exported import ExportedModel
from simulations.federation.run import open_run, run_in_process
from simulations.federation.workspace import Workspace, create_workspace


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("lesions")
    archives = {name: write_lesions(root / name, 6, seed) for seed, name in enumerate("ab")}
    return create_workspace(
        root / "work", archives, LABELS, modes=("none", "local"), max_epsilon=100.0
    )


@pytest.mark.parametrize("model", MODELS)
def test_a_private_round_of_each_model_and_the_scores_that_stay(
    hospitals: Workspace, tmp_path: Path, model: str
) -> None:
    plan = lesion_plan(model, private=True, rounds=1)
    atlas = load_atlas(plan.atlas, plan.input.grid)
    initial = SiteModel.build(plan, atlas).shared_arrays()
    run = open_run(tmp_path / "run", plan, initial, f"dp-{model}")
    run_in_process(plan, hospitals, run, atlas)
    assert run.latest().round == 1
    for name in "ab":
        config = SiteConfig.load(hospitals.site_config(name))
        state = StateFolder(config.state_dir)
        assert Ledger(state.ledger).spent(plan.privacy.delta) > 0
        folder = state.model(f"dp-{model}")
        assert (folder / GLOBAL).exists()
        assert (folder / SITE).exists()
        scores = json.loads((folder / EVALUATION).read_bytes())
        key = "sensitivity_at_1_fp" if model == "lesion-detector" else "dice"
        assert 0 <= scores["global"][key] <= 1
        assert scores["global"]["patients"] == scores["test_patients"]
        assert key in scores["personalised"]


def test_two_open_rounds_then_report_export_and_evaluation(
    hospitals: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stay_in_this_process(monkeypatch)
    plan = lesion_plan("unet")
    atlas = load_atlas(plan.atlas, plan.input.grid)
    model = SiteModel.build(plan, atlas)
    run = open_run(tmp_path / "run", plan, model.shared_arrays(), "open-unet")
    run_in_process(plan, hospitals, run, atlas)
    assert run.latest().round == 2

    report_command(run.path, out=tmp_path / "report")
    assert "No figure about test patients was released" in (
        (tmp_path / "report" / "report.html").read_text()
    )

    assert export_folder(run, tmp_path / "carried") is not None  # no moments, and it says so
    assert ExportedModel.read(tmp_path / "carried").plan.task.kind == "segmentation"

    site = str(hospitals.site_config("a"))
    for name in ("open-unet", str(tmp_path / "carried")):
        done = CliRunner().invoke(
            app, ["evaluate", name, "--config", site, "--draws", "100", "--json"]
        )
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        found = json.loads(Path(told["json"]).read_bytes())
        assert found["task"] == "segmentation"
        assert "released" in found["figures"]
        html = Path(told["page"]).read_text()
        assert "Dice" in html
        assert "may leave the hospital" in html
        notice = Path(told["json"]).with_name("MUST_NOT_LEAVE.txt")
        assert notice.exists()
        assert not notice.parent.stat().st_mode & 0o077


def test_the_agent_serves_a_lesion_plan_after_accept(hospitals: Workspace, tmp_path: Path) -> None:
    plan = lesion_plan("lesion-detector", private=True)
    agent = SiteAgent(SiteConfig.load(hospitals.site_config("a")), plan)
    try:
        agent.prepare()
        assert agent.status().plan_digest == plan.digest
    finally:
        agent.close()
