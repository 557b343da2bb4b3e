"""``smrfed-site explain`` as a hospital uses it: real archive, real model, files to look at."""

from __future__ import annotations

import csv
import json
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from agent_site import build_hospital
from bids_fixture import brain, people, save_nifti, write_bids
from click.testing import Result
from typer.testing import CliRunner

from client.cli import app
from client.explanation import writing
from client.explanation.findings import Findings
from client.explanation.overlay import overlay
from client.explanation.public_brain import public_brain
from client.explanation.volumes import prepared_volumes, scan_volumes
from client.training.site_model import SiteModel
from shared_model.atlas.select import load_atlas
from shared_model.errors import SmrfedError
from shared_model.explanation.norms import Measured, VolumeNorms, fit_norms, percentile
from shared_model.explanation.region_table import region_table
from shared_model.explanation.relevance import Relevance
from shared_model.exported import exported_files
from shared_model.grid import ModelGrid
from shared_model.plan import FederationPlan, InputSection
from shared_model.protocol.arrays import encode_arrays
from shared_model.registry import default_groups
from shared_model.start_environment import start_environment

GRID = ModelGrid(spacing_mm=4.0)


def make_plan() -> FederationPlan:
    return FederationPlan.parse(
        {
            "name": "exported",
            "input": {"grid": {"spacing_mm": 4.0}},
            "model": {"config": {"width": 4}},
            "groups": default_groups("smrnet").model_dump(),
            "privacy": {"mode": "none"},
            "federation": {"sites": [{"name": "a", "declared_patients": 50}]},
        }
    )


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``site.toml`` of a hospital with an archive, and beside it an exported model."""
    folder, plan = tmp_path_factory.mktemp("hospital"), make_plan()
    archive = write_bids(folder / "archive", *people(8))
    site = build_hospital(folder / "site", archive, plan)
    model = SiteModel.build(plan, load_atlas(plan.atlas, plan.input.grid))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in ("reasoner.head.weight", "reasoner.readout.common", "reasoner.readout.own"):
            (parameter,) = model.parameters([name])
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    exported = site.folder / "exported"
    exported.mkdir()
    for name, content in exported_files(plan, encode_arrays(model.shared_arrays()), None).items():
        (exported / name).write_bytes(content)
    return site.folder


def run(hospital: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    # The command starts itself anew where the environment is not the one it wants.
    for name, value in start_environment(1).items():
        monkeypatch.setenv(name, value)
    command = ["explain", *arguments, "--config", str(hospital / "site.toml")]
    return CliRunner().invoke(app, command)


@pytest.fixture(scope="module")
def explained(hospital: Path) -> tuple[dict[str, Any], Path]:
    with pytest.MonkeyPatch.context() as patch:
        result = run(hospital, patch, "sub-03/M12", "--model", str(hospital / "exported"), "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output.strip().splitlines()[-1])
    return found, Path(found["folder"])


def test_everything_lies_in_one_private_folder(explained: tuple[dict[str, Any], Path]) -> None:
    found, folder = explained
    names = {path.name for path in folder.iterdir()}
    assert {
        "MUST_NOT_LEAVE.txt",
        "explanation.html",
        "explanation.pdf",
        "explanation.json",
        "regions.csv",
        "edges.csv",
        "volumes.csv",
        "scan.nii.gz",
    } <= names
    methods = json.loads((folder / "explanation.json").read_text())["methods"]
    assert methods[0] == "region_evidence"
    assert set(methods) == {path.stem for path in folder.glob("*.png")}
    assert set(methods) | {"scan"} == {p.name.removesuffix(".nii.gz") for p in folder.glob("*.gz")}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    assert "sub-03" not in str(folder)
    assert not list(folder.parent.glob(".making-*"))


def test_overlays_lie_on_the_scan_in_mni_space(explained: tuple[dict[str, Any], Path]) -> None:
    _, folder = explained
    for path in folder.glob("*.nii.gz"):
        image = nibabel.load(path)
        assert image.shape == GRID.shape
        np.testing.assert_allclose(image.affine, GRID.affine)
        assert int(image.header["sform_code"]) == 4
        assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")


def test_the_page_says_what_it_may_and_nothing_more(explained: tuple[dict[str, Any], Path]) -> None:
    found, folder = explained
    page = (folder / "explanation.html").read_text()
    assert "Regions that drove this model&#x27;s output" in page
    assert "Must not leave this hospital" in page
    assert "no diagnosis" in (folder / "MUST_NOT_LEAVE.txt").read_text()
    assert "synthetic" in page
    assert "pathology" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count('src="data:image/png') == 6
    for region in found["top_regions"]:
        assert region.replace("_", " ") in page


def test_the_table_has_every_region_once(explained: tuple[dict[str, Any], Path]) -> None:
    found, folder = explained
    rows = list(csv.DictReader((folder / "regions.csv").open()))
    assert len(rows) == 116
    assert [int(row["rank"]) for row in rows] == list(range(1, 117))
    assert [row["name"] for row in rows[:5]] == found["top_regions"]
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=1e-6)
    assert {row["side"] for row in rows} == {"left", "right", "midline"}


def test_an_aligned_file_is_explained_like_the_archive_s_scan(
    hospital: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save_nifti(tmp_path / "lone.nii.gz", brain(77), "LPS")
    arguments = (str(tmp_path / "lone.nii.gz"), "--model", str(hospital / "exported"))
    result = run(hospital, monkeypatch, *arguments, "--class", "AD", "--age", "71", "--sex", "F")
    assert result.exit_code == 0, result.output
    assert "explained" in result.output
    assert "AD" in result.output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("sub-99", "--model", "exported"), "SMR-E480"),
        (("sub-03/M99", "--model", "exported"), "SMR-E480"),
        (("sub-00", "--model", "nothing"), "SMR-E619"),
        (("sub-00", "--model", "exported", "--class", "PD"), "SMR-E484"),
        (("absent.nii.gz", "--model", "exported"), "SMR-E212"),
    ],
)
def test_what_cannot_be_explained_has_a_number_and_leaves_nothing(
    hospital: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: str
) -> None:
    monkeypatch.chdir(hospital)
    before = sorted((hospital / "state").rglob("*explanations*"))
    result = run(hospital, monkeypatch, *arguments)
    assert result.exit_code != 0
    assert isinstance(result.exception, SmrfedError)
    assert result.exception.code == code
    assert sorted((hospital / "state").rglob("*explanations*")) == before


@pytest.mark.parametrize("wrong", [("--age", "nan"), ("--age", "-1"), ("--sex", "Q")])
def test_what_cannot_be_an_age_or_a_sex_is_refused(
    hospital: Path, monkeypatch: pytest.MonkeyPatch, wrong: tuple[str, str]
) -> None:
    result = run(hospital, monkeypatch, "sub-00", "--model", "exported", *wrong)
    assert result.exit_code == 2
    assert wrong[0] in result.output


def test_a_full_disk_leaves_the_old_explanation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "explanations" / "model" / "scan-AD"
    writing._replace(folder, {"a": b"old"})
    real = os.open

    def full(path: str, flags: int, *rest: int, **options: int) -> int:
        if flags & os.O_CREAT and str(path).endswith("b"):
            raise OSError(28, "No space left on device")
        return real(path, flags, *rest, **options)

    monkeypatch.setattr("client.explanation.writing.os.open", full)
    with pytest.raises(SmrfedError) as caught:
        writing._replace(folder, {"a": b"new", "b": b"new"})
    monkeypatch.undo()
    assert caught.value.code == "SMR-E485"
    assert [path.name for path in folder.parent.iterdir()] == ["scan-AD"]
    assert (folder / "a").read_bytes() == b"old"


def test_an_even_map_names_no_region() -> None:
    atlas = load_atlas(make_plan().atlas, GRID)
    voxels = np.zeros(GRID.shape, np.float32)
    for value in (0.0, 0.5):
        voxels[atlas.labels > 0] = value
        even = region_table(Relevance("occlusion", voxels), atlas)
        assert Findings.drove(SimpleNamespace(regions=even), 5) == ()  # type: ignore[arg-type]
    voxels[atlas.labels == 7] = 1
    named = SimpleNamespace(regions=region_table(Relevance("occlusion", voxels), atlas))
    assert Findings.drove(named, 5) == (atlas.names[6],)  # type: ignore[arg-type]


def test_pictures_show_where_the_map_is() -> None:
    scan = public_brain(InputSection(grid=GRID))
    voxels = np.zeros(GRID.shape, np.float32)
    voxels[10:13, 20:23, 15:18] = 1
    drawn = overlay(scan, voxels, GRID)
    assert drawn.png.startswith(b"\x89PNG")
    for axis, plane in enumerate(("sagittal", "coronal", "axial")):
        index = [(mm - GRID.affine[axis, 3]) / 4 for mm in drawn.position_mm[plane]]  # type: ignore[index]
        first = (10, 20, 15)[axis]
        assert any(first <= round(i) <= first + 2 for i in index)


def test_norms_are_a_line_in_age_and_z_scores_undo_it() -> None:
    rng = np.random.default_rng(0)
    people_ = []
    for number in range(60):
        age, sex = 55 + number * 0.6, "MF"[number % 2]
        expected = np.array([-3.0, -5.0]) - 0.1 * (age - 70) / 10 + 0.05 * (sex == "M")
        people_.append(Measured(expected + rng.normal(0, 0.02, 2), age, sex))
    intercept, per_decade, male, sd = fit_norms(people_)
    np.testing.assert_allclose(intercept, [-3, -5], atol=0.02)
    np.testing.assert_allclose(per_decade, [-0.1, -0.1], atol=0.02)
    np.testing.assert_allclose(male, [0.05, 0.05], atol=0.02)
    np.testing.assert_allclose(sd, [0.02, 0.02], atol=0.008)
    norms = VolumeNorms(
        reference="people of a test",
        command="pytest",
        people=60,
        atlas_sha256="0" * 64,
        spacing_mm=4.0,
        intensity="zscore",
        age_low=55,
        age_high=91,
        intercept=tuple(intercept),
        per_decade=tuple(per_decade),
        male=tuple(male),
        sd=tuple(sd),
    )
    z = np.stack([norms.z(p.log_share, p.age, p.sex) for p in people_])
    assert abs(z.mean()) < 0.01
    assert z.std() == pytest.approx(1, abs=0.05)
    assert percentile(0) == pytest.approx(50)
    assert percentile(-1.96) == pytest.approx(2.5, abs=0.01)
    with pytest.raises(ValueError, match="too few"):
        fit_norms(people_[:5])


def test_volumes_without_a_fitting_reference_have_no_z() -> None:
    plan = make_plan()
    atlas = load_atlas(plan.atlas, GRID)
    volume = public_brain(plan.input)
    found = scan_volumes(volume, atlas, plan, 70, "F")
    assert found.z is None
    assert "another atlas, grid" in found.why_not
    ml, brain_ml = prepared_volumes(volume, atlas)
    assert 1000 < brain_ml < 2200
    assert ml.sum() < brain_ml


def test_the_shipped_norms_find_the_template_s_hippocampus_normal() -> None:
    plan = FederationPlan.parse({**make_plan().model_dump(mode="json"), "input": {}})
    atlas = load_atlas(plan.atlas, plan.input.grid)
    found = scan_volumes(public_brain(plan.input), atlas, plan, 70, "F")
    assert found.z is not None
    assert len(found.z) == 116
    index = atlas.names.index("hippocampus_left")
    assert abs(found.z[index]) < 4
    assert scan_volumes(public_brain(plan.input), atlas, plan, 20, "F").z is None
    assert scan_volumes(public_brain(plan.input), atlas, plan, None, "F").z is None
