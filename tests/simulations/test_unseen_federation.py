"""From real agents to an unseen hospital: train, calibrate, export, adapt; nothing made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bids_fixture import people, write_bids
from small_federation import new_run, new_workspace, plan_of
from typer.testing import CliRunner

import client.cli
import server.cli
from client.training.site_model import SiteModel
from shared_model.atlas.select import load_atlas
from shared_model.exported import ExportedModel
from shared_model.plan import FederationPlan
from simulations.federation.run import run_in_process

SITES = ("a", "b")


@pytest.mark.slow
def test_a_hospital_that_took_no_part_adapts_what_a_federation_exported(tmp_path: Path) -> None:
    data = plan_of(SITES, rounds=1).model_dump(mode="json")
    data["calibration"] = {"unseen_sites": True}
    data["evaluation"] |= {"split": "stratified"}
    plan = FederationPlan.parse(data)
    # Policies let nothing leave that was counted over fewer than ten patients.
    archives = {
        site: write_bids(tmp_path / site, *people(16), seed=number)
        for number, site in enumerate(SITES)
    }
    run = new_run(tmp_path / "run", plan)
    atlas = load_atlas(plan.atlas, plan.input.grid)
    run_in_process(plan, new_workspace(tmp_path / "parties", archives), run, atlas)
    runner = CliRunner()
    done = runner.invoke(server.cli.app, ["export", str(run.path), str(tmp_path / "model")])
    assert done.exit_code == 0, done.output
    exported = ExportedModel.read(tmp_path / "model")
    assert exported.moments is not None, done.output
    assert exported.moments.sites == 2
    assert exported.moments.patients == pytest.approx(24)
    SiteModel.build(plan, atlas).load_shared(exported.arrays)
    unseen = write_bids(tmp_path / "unseen", *people(9), seed=7)
    out = tmp_path / "adapted"
    command = ["adapt", str(tmp_path / "model"), "--archive", str(unseen), "--out", str(out)]
    done = runner.invoke(client.cli.app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["patients"] == 9
    assert facts["model_sha256"] == exported.sha256
    np.testing.assert_allclose(sum(facts["prevalence"]), 1)
