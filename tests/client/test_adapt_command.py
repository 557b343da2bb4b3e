"""``smrfed-site adapt`` as a hospital uses it: real archive, real files, a process of its own."""

from __future__ import annotations

import csv
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bids_fixture import people, write_bids
from typer.testing import CliRunner

from client.agent.evaluation import mean_deviations, mean_probabilities
from client.archive.bids import read_bids_archive
from client.archive.labels import LabelMapping
from client.cli import app
from client.prepared.store import PreparedStore
from client.training.examples import patient_examples
from client.training.site_model import SiteModel
from shared_model.adaptation.model_moments import model_moments
from shared_model.atlas.select import load_atlas
from shared_model.errors import SmrfedError
from shared_model.exported import ADAPTATION, PLAN, exported_files
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import body_digest, encode_arrays
from shared_model.registry import default_groups
from shared_model.releases.statistics import patient_vectors, split

LABELS = LabelMapping(values={name: (name,) for name in ("CN", "MCI", "AD")})


def make_plan(**sections: Any) -> FederationPlan:
    return FederationPlan.parse(
        {
            "name": "exported",
            "input": {"grid": {"spacing_mm": 4.0}},
            "model": {"config": {"width": 4}},
            "groups": default_groups("smrnet").model_dump(),
            "privacy": {"mode": "none"},
            "calibration": {"unseen_sites": True},
            "federation": {"sites": [{"name": "a", "declared_patients": 50}]},
            **sections,
        }
    )


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bids(tmp_path_factory.mktemp("archive"), *people(15))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Path:
    """A model whose moments are of the same kind of people as the archive."""
    folder, plan = tmp_path_factory.mktemp("model"), make_plan()
    model = SiteModel.build(plan, load_atlas(plan.atlas, plan.input.grid))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in ("reasoner.head.weight", "reasoner.readout.common"):
            (parameter,) = model.parameters([name])
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    patients = read_bids_archive(archive, LABELS, ("CN", "MCI", "AD"))
    store = PreparedStore(folder / "state", plan.input.grid, plan.input.intensity)
    examples = tuple(patient_examples(model, patients, store))
    y, p = mean_probabilities(model, examples)
    total = patient_vectors("calibrate", y, p, plan, mean_deviations(examples)).sum(0)
    sums = {"a": split("calibrate", total.astype(np.float32), plan)}
    body = encode_arrays(model.shared_arrays())
    moments = model_moments(sums, plan, body_digest(body))
    for name, content in exported_files(plan, body, moments).items():
        (folder / name).write_bytes(content)
    return folder


def adapt(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "client.cli", "adapt", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )


def refusal(*arguments: str | Path) -> SmrfedError:
    """The same in this process: importing torch once is enough."""
    result = CliRunner().invoke(app, ["adapt", *map(str, arguments)])
    assert isinstance(result.exception, SmrfedError), result.output
    return result.exception


def test_a_hospital_adapts_and_keeps_everything(
    tmp_path: Path, exported: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(archive.rglob("*"))
    done = adapt(exported, "--archive", archive, "--out", "own", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["patients"] == 15
    assert facts["method"] == "em"
    assert facts["excluded"] == []
    assert sum(facts["prevalence"]) == pytest.approx(1)
    state, table = tmp_path / "own" / "adapted.json", tmp_path / "own" / "predictions.csv"
    for path in (state, table):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o700
    assert "must not leave" in json.loads(state.read_text())["notice"]
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["participant_id"] for row in rows] == [f"sub-{n:02d}" for n in range(15)]
    for row in rows:
        p = np.array([float(row[f"p_{c}"]) for c in ("CN", "MCI", "AD")])
        assert p.sum() == pytest.approx(1, abs=1e-5)
        released = np.array([float(row[f"released_p_{c}"]) for c in ("CN", "MCI", "AD")])
        shift = np.array(facts["class_offsets"])
        moved = released * np.exp(shift)
        assert row["decision"] == ("CN", "MCI", "AD")[int(moved.argmax())]
        pi = np.array(facts["prevalence"]) / np.array(facts["training_prevalence"])
        np.testing.assert_allclose(moved * pi / (moved * pi).sum(), p, atol=1e-4)
    assert sorted(archive.rglob("*")) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["own"]
    again = CliRunner().invoke(
        app, ["adapt", str(exported), "--archive", str(archive), "--out", "own", "--json"]
    )
    assert json.loads(again.stdout) == facts


def test_what_is_shown_says_what_stays(
    tmp_path: Path, exported: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        app, ["adapt", str(exported), "--archive", str(archive), "--recentre"]
    )
    assert done.exit_code == 0, done.output
    assert "must not leave" in done.stdout
    assert "declared by --recentre" in done.stdout
    state = json.loads((tmp_path / "adapted" / "adapted.json").read_text())
    assert state["method"] == "recentre"
    assert state["prevalence"] == pytest.approx(state["training_prevalence"])


def without_moments(folder: Path) -> None:
    (folder / ADAPTATION).unlink()


def another_atlas(folder: Path) -> None:
    """As a coordinator with another atlas would export: all digests agree."""
    plan = json.loads((folder / PLAN).read_text())
    plan["atlas"] = {"sha256": "0" * 64}
    changed = FederationPlan.parse(plan)
    (folder / PLAN).write_bytes(changed.canonical_json)
    moments = json.loads((folder / ADAPTATION).read_text())
    moments["plan_digest"] = changed.digest
    (folder / ADAPTATION).write_text(json.dumps(moments))


def native(folder: Path) -> None:
    plan = json.loads((folder / PLAN).read_text())
    plan["input"]["preparation"] = {"source": "native"}
    changed = FederationPlan.parse(plan)
    (folder / PLAN).write_bytes(changed.canonical_json)
    moments = json.loads((folder / ADAPTATION).read_text())
    moments["plan_digest"] = changed.digest
    (folder / ADAPTATION).write_text(json.dumps(moments))


def another_model(folder: Path) -> None:
    plan = json.loads((folder / PLAN).read_text())
    plan["seed"] = 99
    (folder / PLAN).write_bytes(FederationPlan.parse(plan).canonical_json)


def foreign_source(folder: Path) -> None:
    """Moments of hospitals whose scans lay elsewhere: this archive is out of distribution."""
    moments = json.loads((folder / ADAPTATION).read_text())
    moments["means"] = (np.array(moments["means"]) + np.array([0.0, 0.0, 5.0])).tolist()
    moments["covariance"] = (0.01 * np.eye(3)).tolist()
    (folder / ADAPTATION).write_text(json.dumps(moments))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (without_moments, "SMR-E390"),
        (another_atlas, "SMR-E621"),
        (native, "SMR-E392"),
        (another_model, "SMR-E645"),
        (foreign_source, "SMR-E646"),
    ],
)
def test_what_is_wrong_with_the_model_is_refused_by_number(
    tmp_path: Path, exported: Path, archive: Path, change: Any, code: str
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for path in exported.glob("*.*"):
        (model / path.name).write_bytes(path.read_bytes())
    change(model)
    error = refusal(model, "--archive", archive, "--out", tmp_path / "own")
    assert error.code == code
    assert error.remedy
    assert not (tmp_path / "own" / "predictions.csv").exists()


def test_too_few_patients_no_archive_and_no_room(tmp_path: Path, exported: Path) -> None:
    few = write_bids(tmp_path / "few", *people(7))
    cases = [
        ((exported, "--archive", few, "--out", tmp_path / "own"), "SMR-E641"),
        ((exported, "--archive", tmp_path / "none"), "SMR-E203"),
        ((tmp_path, "--archive", few), "SMR-E644"),
        ((exported, "--archive", few, "--out", few / "participants.tsv" / "x"), "SMR-E391"),
    ]
    for arguments, code in cases:
        assert refusal(*arguments).code == code
    done = adapt(exported, "--archive", tmp_path / "none", cwd=tmp_path)
    assert done.returncode == 1
    assert "[SMR-E203]" in done.stderr
