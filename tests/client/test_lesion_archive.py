"""Masks of lesions as hospitals file them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import tomli_w
from lesion_site import (
    LABELS,
    lesion_plan,
    mask_path,
    set_mask,
    stay_in_this_process,
    write_lesions,
)
from typer.testing import CliRunner

from client.agent.acceptance import AcceptedPlans
from client.agent.state import StateFolder
from client.archive.bids import read_bids_archive
from client.archive.labels import LabelMapping
from client.archive.lesions import divided_by_mask, read_lesions, require_masks
from client.archive.patients import Patient, Scan
from client.cli import app
from client.config import SiteConfig
from client.preflight.setup.data import check_archive
from client.preflight.site import CheckedSite
from client.prepared.lesion_grid import lesions_to_grid, lesions_to_scan
from client.prepared.resample import to_grid
from client.prepared.scan_fields import ScanFields
from client.prepared.scan_source import scan_source
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid
from shared_model.plan import FederationPlan
from simulations.federation.workspace import create_workspace

GRID = ModelGrid(spacing_mm=4.0)
WORDS = LabelMapping(values={"background": ("none",)}, missing_images="skip")


def patients(root: Path) -> tuple[Patient, ...]:
    return read_bids_archive(root, WORDS, ())


def first(root: Path) -> tuple[Patient, Scan, Path]:
    patient = patients(root)[0]
    return patient, patient.scans[0], mask_path(root, patient.scans[0].path)


def code(root: Path, patient: Patient, scan: Scan) -> str:
    with pytest.raises(SmrfedError) as error:
        read_lesions(root, patient, scan)
    return error.value.code


def test_lesions_lie_where_the_scan_is_bright_in_any_orientation(tmp_path: Path) -> None:
    root = write_lesions(tmp_path, 6)
    counts = []
    for patient in patients(root):
        for scan in patient.scans:
            found = read_lesions(root, patient, scan)
            numbers = lesions_to_grid(found.numbers, found.affine, GRID)
            image = nibabel.load(scan.path)
            greys = to_grid(np.asarray(image.dataobj, np.float32), image.affine, GRID)
            assert (greys[numbers > 0] > 350).all()
            assert (greys[numbers == 0] < 350).all()
            assert np.array_equal(lesions_to_scan(numbers, GRID, found.affine, found.numbers.shape),
                                  found.numbers)  # fmt: skip
            counts.append(int(numbers.max()))
    assert 0 in counts
    assert max(counts) == 2


def test_components_of_a_binary_mask_are_counted_and_instances_kept(tmp_path: Path) -> None:
    root = write_lesions(tmp_path, 2)
    patient, scan, path = first(root)
    values = np.zeros(GRID.shape, np.uint8)
    values[10, 10, 10] = values[11, 11, 11] = 1  # they touch at a corner: one lesion
    values[20:22, 20, 20] = 1
    set_mask(path, values)
    assert sorted(np.unique(read_lesions(root, patient, scan).numbers, return_counts=True)[1])[
        :2
    ] == [2, 2]
    values[20, 20, 20], values[21, 20, 20] = 7, 9  # they touch, and somebody said: two
    values[10, 10, 10] = values[11, 11, 11] = 0
    set_mask(path, values)
    path.rename(mask_path(root, scan.path, "dseg"))
    numbers = read_lesions(root, patient, scan).numbers
    assert numbers[20, 20, 20] == 1
    assert numbers[21, 20, 20] == 2
    assert numbers.max() == 2


def test_a_mask_of_zeros_says_none_and_a_missing_one_says_nothing(tmp_path: Path) -> None:
    root = write_lesions(tmp_path, 5, masks=3)
    marked, others = divided_by_mask(root, patients(root))
    assert [p.id for p in marked] == ["sub-00", "sub-01", "sub-02"]
    assert [p.id for p in others] == ["sub-03", "sub-04"]
    with pytest.raises(SmrfedError, match="SMR-E225") as error:
        require_masks(root, patients(root))
    assert "sub-04" in str(error.value.found)
    assert code(root, others[0], others[0].scans[0]) == "SMR-E225"
    patient, scan, path = first(root)
    set_mask(path, np.zeros(GRID.shape, np.uint8))
    assert not read_lesions(root, patient, scan).numbers.any()


def test_masks_that_cannot_be_right_are_refused(tmp_path: Path) -> None:
    root = write_lesions(tmp_path, 2)
    patient, scan, path = first(root)
    affine = nibabel.load(path).affine
    moved = affine.copy()
    moved[0, 3] += 0.5
    some = np.zeros(GRID.shape, np.float32)
    some[3, 3, 3] = 1
    set_mask(path, some, moved)
    assert code(root, patient, scan) == "SMR-E226"
    set_mask(path, some[:-1], affine)
    assert code(root, patient, scan) == "SMR-E226"
    cut = path.with_name("cut.nii")
    set_mask(path, some[:-1], affine)
    cut.write_bytes(nibabel.load(path).to_bytes()[:400])
    cut.replace(path.with_name(path.name.removesuffix(".gz")))
    path.unlink()
    assert code(root, patient, scan) == "SMR-E226"  # before a voxel is read
    path.with_name(path.name.removesuffix(".gz")).unlink()
    colours = np.zeros(GRID.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, affine), path)
    assert code(root, patient, scan) == "SMR-E212"
    for wrong in (0.5, -1.0, np.nan):
        set_mask(path, np.where(some, np.float32(wrong), np.float32(0)), affine)
        assert code(root, patient, scan) == "SMR-E227"
    dust = np.zeros(GRID.shape, np.uint8)
    dust[::3, ::3, ::3] = 1
    set_mask(path, dust, affine)
    assert code(root, patient, scan) == "SMR-E228"
    path.write_bytes(b"not an image")
    assert code(root, patient, scan) == "SMR-E212"
    mask_path(root, scan.path, "dseg").write_bytes(b"a second one")
    assert code(root, patient, scan) == "SMR-E225"
    for each in path.parent.iterdir():
        each.unlink()
    path.symlink_to("/dev/null")
    assert code(root, patient, scan) == "SMR-E211"


def site(tmp_path: Path, masks: int | None, **more: object) -> SiteConfig:
    root = write_lesions(tmp_path / "archive", 5, masks=masks)
    work = create_workspace(tmp_path / "work", {"a": root}, LABELS, modes=("none",))
    return SiteConfig.load(work.site_config("a")).model_copy(update=more)


def test_training_takes_marked_scans_without_looking_at_diagnoses(tmp_path: Path) -> None:
    plan, config = lesion_plan("unet"), site(tmp_path, 3)
    with pytest.raises(SmrfedError, match="SMR-E225"):
        scan_source(config, plan).patients()
    skipping = config.model_copy(update={"missing_masks": "skip"})
    found = scan_source(skipping, plan).patients()
    assert [p.id for p in found] == ["sub-00", "sub-01", "sub-02"]
    numbers = ScanFields(skipping, plan).lesions(found[0], found[0].scans[0])
    assert numbers.shape == GRID.shape
    assert numbers.dtype == np.int16
    assert numbers.max() == 1


def test_nobody_marked_is_told_even_where_missing_masks_are_skipped(tmp_path: Path) -> None:
    config = site(tmp_path, 0, missing_masks="skip")
    with pytest.raises(SmrfedError, match="SMR-E225"):
        scan_source(config, lesion_plan("unet")).patients()


def test_scans_as_acquired_and_moving_augmentation_are_refused(tmp_path: Path) -> None:
    data = lesion_plan("unet").model_dump(mode="json")
    data["input"]["preparation"]["source"] = "native"
    with pytest.raises(SmrfedError, match="SMR-E229"):
        scan_source(site(tmp_path, None), FederationPlan.parse(data))
    data["augmentation"] |= {"enabled": True}
    FederationPlan.parse(data)  # effects of greys alone
    for field in ("rotation_deg", "shift_mm", "scale", "flip_probability"):
        changed = data | {"augmentation": data["augmentation"] | {field: 0.1}}
        with pytest.raises(SmrfedError, match="moves the scan"):
            FederationPlan.parse(changed)


@pytest.mark.usefixtures("listed_here")
def test_check_and_accept_say_what_a_lesion_plan_means_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stay_in_this_process(monkeypatch)
    root = write_lesions(tmp_path / "archive", 5)
    work = create_workspace(tmp_path / "work", {"a": root}, LABELS)
    plan, path = lesion_plan("lesion-detector", private=True), work.site_config("a")
    file = tmp_path / "plan.toml"
    file.write_text(tomli_w.dumps(plan.model_dump(mode="json", exclude_none=True)))
    done = CliRunner().invoke(app, ["accept", str(file), "--config", str(path), "--yes", "--json"])
    assert done.exit_code == 0, done.output
    config = SiteConfig.load(path)
    accepted = AcceptedPlans(StateFolder(config.state_dir).plans).newest()
    assert accepted.plan.digest == plan.digest
    assert any(name.startswith("faces.") for name in accepted.outgoing or {})
    said = check_archive(CheckedSite(config))
    assert "5 patients, 6 scans with a lesion mask" in said
