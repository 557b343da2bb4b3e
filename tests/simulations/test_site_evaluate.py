"""``smrfed-site evaluate``: the models that a hospital holds, on its own patients, told there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_federation import new_run, new_workspace, plan_of, write_archives

from client.agent import final_model
from client.agent.state import StateFolder
from client.config import SiteConfig
from client.evaluation import held_model
from client.evaluation.held_model import EVALUATION, find_model
from client.evaluation.local import PERSONALISED, RELEASED, evaluate_at_site
from server.export import export_folder
from shared_model.atlas.select import load_atlas
from shared_model.errors import SmrfedError
from shared_model.evaluation.results import SEEN, UNSEEN
from shared_model.evaluation.table_file import read_csv
from shared_model.plan import FederationPlan
from simulations.federation.run import run_in_process
from simulations.federation.workspace import Workspace

MEMBERS = ("north", "south")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, FederationPlan, Path]:
    """A finished run of two hospitals, and a third one that knows the exported model only."""
    root = tmp_path_factory.mktemp("evaluate")
    plan = plan_of(MEMBERS, rounds=1)
    workspace = new_workspace(root / "w", write_archives(root / "archives", (*MEMBERS, "west")))
    run = new_run(root / "run", plan)
    run_in_process(plan, workspace, run, load_atlas(plan.atlas, plan.input.grid))
    export_folder(run, root / "exported")
    return workspace, plan, root / "exported"


def test_both_models_are_evaluated_as_the_agent_scored_them(
    finished: tuple[Workspace, FederationPlan, Path],
) -> None:
    workspace, plan, _ = finished
    config = SiteConfig.load(workspace.site_config("north"))
    held = find_model(config, "study")
    document, written = evaluate_at_site(config, plan, held, None, 100)
    scored = json.loads((StateFolder(config.state_dir).model("study") / EVALUATION).read_bytes())
    for key, told in ((RELEASED, scored["global"]), (PERSONALISED, scored["personalised"])):
        found = document.arm(key).groups[SEEN]
        assert found.patients == scored["test_patients"]
        assert found.metrics["negative_log_likelihood"].value == pytest.approx(
            told["negative_log_likelihood"]
        )
    assert document.headline == PERSONALISED
    assert document.overlap.checked
    assert document.provenance.plan_digest == plan.digest == held.plan_digest
    table = read_csv(written.page.parent / f"predictions-{RELEASED}.csv")
    assert all(patient.startswith("north/sub-") for patient in table.patient)


def test_it_stays_in_the_state_folder_for_the_owner_only_and_says_so(
    finished: tuple[Workspace, FederationPlan, Path],
) -> None:
    workspace, plan, _ = finished
    config = SiteConfig.load(workspace.site_config("south"))
    document, written = evaluate_at_site(config, plan, find_model(config, "study"), None, 100)
    folder = written.page.parent
    assert folder.is_relative_to(config.state_dir)
    assert folder.stat().st_mode & 0o077 == 0
    assert document.scope == "stays"
    assert "Must not leave this hospital" in written.page.read_text("utf-8")
    assert json.loads(written.json.read_bytes())["scope"] == "stays"
    assert (folder / "MUST_NOT_LEAVE.txt").exists()
    assert written.card is None
    assert not list(folder.glob("*.md"))


def test_a_hospital_that_took_no_part_evaluates_the_exported_model_on_everybody(
    finished: tuple[Workspace, FederationPlan, Path],
) -> None:
    workspace, _, exported = finished
    path = workspace.site_config("west")
    result = subprocess.run(
        [sys.executable, "-m", "client.cli", "evaluate", str(exported), "--config", str(path),
         "--draws", "100"],
        capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "must not leave this hospital" in result.stdout
    config = SiteConfig.load(path)
    folder = StateFolder(config.state_dir).evaluations / "exported"
    content = json.loads((folder / "evaluation.json").read_bytes())
    assert content["patients"][0]["patients"] == 6
    assert not content["patients"][0]["seen"]
    assert UNSEEN in content["arms"][0]["groups"]


def test_a_model_that_is_not_there_is_told_with_those_that_are(
    finished: tuple[Workspace, FederationPlan, Path], tmp_path: Path
) -> None:
    config = SiteConfig.load(finished[0].site_config("north"))
    for name in ("other", "../study", "", str(tmp_path / "none.safetensors")):
        with pytest.raises(SmrfedError, match="SMR-E619") as refused:
            find_model(config, name)
        assert name.endswith(".safetensors") or "study" in str(refused.value.expected)


def test_the_files_are_looked_for_where_the_agent_writes_them() -> None:
    for name in ("GLOBAL", "SITE", "EVALUATION"):
        assert getattr(held_model, name) == getattr(final_model, name)
