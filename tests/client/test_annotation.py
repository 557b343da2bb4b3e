"""Proposed masks: how sure they are, where they lie, and how they come back corrected."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesion_site import LABELS, lesion_plan, stay_in_this_process, write_lesions
from typer.testing import CliRunner

from client.agent.acceptance import AcceptedPlans
from client.agent.final_model import GLOBAL
from client.agent.state import StateFolder
from client.annotation.propose import expected_dice
from client.archive.bids import read_bids_archive
from client.archive.lesions import FOLDER, lesion_file, read_lesions
from client.cli import app
from client.config import SiteConfig
from client.training.site_model import SiteModel
from shared_model.atlas.select import load_atlas
from shared_model.protocol.arrays import encode_arrays
from simulations.federation.workspace import Workspace, create_workspace


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_the_confidence_is_the_dice_that_calibrated_voxels_have(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random((12, 12, 12)) ** 3
    mask = p > 0.5
    drawn = [rng.random(p.shape) < p for _ in range(40)]
    found = np.mean([2 * (mask & t).sum() / (mask.sum() + t.sum()) for t in drawn])
    assert expected_dice(p) == pytest.approx(found, abs=0.02)


def test_certain_masks_are_certain_and_empty_ones_as_sure_as_their_worst_voxel() -> None:
    certain = np.zeros((4, 4, 4))
    certain[1:3] = 1.0
    assert expected_dice(certain) == 1.0
    nothing = np.full((4, 4, 4), 0.1)
    nothing[0, 0, 0] = 0.4
    assert expected_dice(nothing) == pytest.approx(0.6)


@pytest.fixture
def hospital(tmp_path: Path) -> tuple[Workspace, SiteConfig]:
    """A model that calls bright voxels lesion, held as of a finished run; two scans are marked."""
    root = write_lesions(tmp_path / "archive", 5, masks=2)
    work = create_workspace(tmp_path / "work", {"a": root}, LABELS, modes=("none",))
    config = SiteConfig.load(work.site_config("a"))
    plan = lesion_plan("unet")
    state = StateFolder(config.state_dir)
    AcceptedPlans(state.plans).accept(plan, None)
    model = SiteModel.build(plan, load_atlas(plan.atlas, plan.input.grid))
    (state.model("run")).mkdir(parents=True)
    (state.model("run") / GLOBAL).write_bytes(encode_arrays(model.shared_arrays()))
    return work, config


def test_the_command_proposes_masks_for_unmarked_scans_only(
    hospital: tuple[Workspace, SiteConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    work, config = hospital

    def bright(self: SiteModel, inputs: torch.Tensor) -> torch.Tensor:
        lesion = (inputs[:, 0] - 2.0) * 50
        return torch.stack([-lesion, lesion], 1)

    monkeypatch.setattr(SiteModel, "logits", bright)
    stay_in_this_process(monkeypatch)
    site = str(work.site_config("a"))
    done = CliRunner().invoke(app, ["annotate", "run", "--config", site, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    patients = read_bids_archive(config.dataset, config.label_mapping, ())
    without = [
        (p, s) for p in patients for s in p.scans if lesion_file(config.dataset, p, s) is None
    ]
    assert told["scans"] == len(without) == 4
    folder = Path(told["folder"])
    assert not folder.stat().st_mode & 0o077
    with (folder / "worklist.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [float(r["confidence"]) for r in rows] == sorted(float(r["confidence"]) for r in rows)
    assert {r["advice"] for r in rows} <= {"glance", "correct"}
    again = CliRunner().invoke(app, ["annotate", "run", "--config", site, "--json"])
    assert json.loads(again.stdout) == told

    # A person's work is never written over; a proposal goes when its scan has a mask.
    theirs, marked = folder / rows[0]["mask"], rows[1]["mask"]
    theirs.write_bytes((folder / rows[2]["mask"]).read_bytes() + b"corrected")
    content = theirs.read_bytes()
    target = config.dataset / FOLDER / marked
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / marked, target)
    again = CliRunner().invoke(app, ["annotate", "run", "--config", site])
    assert "1 corrected by a person and left alone" in again.stdout
    assert theirs.read_bytes() == content
    assert not (folder / marked).exists()
    with (folder / "worklist.tsv").open() as file:
        advice = {row["mask"]: row["advice"] for row in csv.DictReader(file, delimiter="\t")}
    assert set(advice) == {row["mask"] for row in rows} - {marked}
    assert list(advice)[-1] == rows[0]["mask"]
    assert advice[rows[0]["mask"]] == "copy to the archive"
    target.unlink()
    theirs.unlink()
    assert CliRunner().invoke(app, ["annotate", "run", "--config", site]).exit_code == 0

    # A person copies the folder into the archive: the reader of training takes it from there.
    for row in rows:
        target = config.dataset / FOLDER / row["mask"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / row["mask"], target)
    for patient, scan in without:
        numbers = read_lesions(config.dataset, patient, scan).numbers
        # On the scan's own voxels, stored as the scan is: the bright cubes are in it.
        cubes = np.asarray(nibabel.load(scan.path).dataobj) > 350
        assert numbers[cubes].all()
        assert (numbers > 0).mean() < 0.05
    again = CliRunner().invoke(app, ["annotate", "run", "--config", site])
    assert "SMR-E497" in str(again.exception)
