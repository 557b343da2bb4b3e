"""A segmentation is refused before any step; a scan with few or smooth greys is not."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from native_site_fixture import head, native_plan, write_scan
from quality_heads import GRID, flat_head, labels
from scipy.ndimage import gaussian_filter
from test_quality_real_scans import DATA

from client.archive.nifti import read_volume
from client.archive.problems import Defect, Problem
from client.prepared.native_recipe import NativeRecipe
from client.prepared.native_scan import prepare_native_scan
from client.prepared.pipeline import prepare_scan
from client.preprocessing.label_image import flat_share, refuse_labels
from client.quality.header import count_grey_levels
from shared_model.atlas.seeded import seeded_atlas
from shared_model.atlas.tissue import load_tissue_maps

Greys = npt.NDArray[np.float32]


def refused(voxels: npt.NDArray[np.generic]) -> bool:
    greys = voxels.astype(np.float32)
    try:
        refuse_labels(greys, count_grey_levels(greys))
    except Defect as defect:
        return defect.kind is Problem.LABEL_IMAGE
    return False


@pytest.mark.parametrize("every", [1, 2])
def test_segmentations_and_masks_are_refused(every: int) -> None:
    thin = (slice(None, None, every),) * 3
    parcels = seeded_atlas().labels
    assert refused(labels()[thin])
    assert refused(parcels[thin])
    assert refused((parcels > 0)[thin])
    # Labels as FreeSurfer numbers them, and as a header's slope stores them.
    assert refused((parcels * 37 + 11000 * (parcels > 50))[thin])
    assert refused((parcels / 255.0)[thin])
    assert refused(np.where(parcels > 0, parcels, -1)[thin][::-1])


@pytest.mark.parametrize("levels", [255, 64, 32])
def test_heads_of_few_greys_are_not(levels: int) -> None:
    maps = load_tissue_maps()
    clean = flat_head(noise=0.05).image.voxels
    for scan in (head(1).astype(np.float32), clean, maps.t1.astype(np.float32)):
        assert not refused(np.round(scan / scan.max() * levels))
    for soft in (maps.gm, maps.wm):
        assert not refused(np.asarray(soft))


@given(arrays(np.float32, (5, 6, 7), elements=st.integers(0, 3).map(float)))
@settings(max_examples=100, deadline=None)
def test_the_share_is_one_and_the_same_however_a_file_is_stored(voxels: Greys) -> None:
    share = flat_share(voxels)
    assert 0 <= share <= 1
    # The most frequent value is looked for in every second voxel: whole copies keep it.
    wide = voxels.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    everywhere = flat_share(wide)
    assert flat_share(np.moveaxis(wide, 0, 2)) == everywhere
    assert flat_share(wide * 8 - 5) == everywhere
    assert flat_share(wide[::-1, ::-1]) == everywhere


def test_one_value_and_noise_are_the_two_ends() -> None:
    rng = np.random.default_rng(0)
    assert flat_share(rng.normal(size=(20, 20, 20)).astype(np.float32)) == 0
    cube = np.zeros((20, 20, 20), np.float32)
    assert flat_share(cube) == 0
    cube[5:15, 5:15, 5:15] = 1
    assert flat_share(cube) == 1


def test_it_is_left_out_before_any_step(tmp_path: Path) -> None:
    path = write_scan(tmp_path / "sub-01_T1w.nii.gz", labels().astype(np.uint8))
    plan = native_plan()
    recipe = NativeRecipe(plan.input, plan.atlas, tmp_path / "state")
    prepare_native_scan(recipe, path)
    record = recipe.store.record(recipe.store.files.sha256(path))
    assert record is not None
    assert record.defect is not None
    assert record.defect.code == "SMR-E248"
    assert "4 different values" in record.defect.case
    assert str(tmp_path) not in record.defect.case
    # No network was run and nothing is kept but this.
    assert [p.suffix for p in (tmp_path / "state").rglob("*") if p.is_file()] == [".json"]


def test_an_aligned_segmentation_is_refused_too(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(labels().astype(np.uint8), GRID.affine)
    image.set_sform(GRID.affine, 4)
    nibabel.save(image, tmp_path / "labels.nii")
    with pytest.raises(Defect) as told:
        prepare_scan(tmp_path / "labels.nii", GRID, "zscore")
    assert told.value.kind is Problem.LABEL_IMAGE
    assert str(tmp_path / "labels.nii") in told.value.case


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no public scans at {DATA}")
def test_no_real_head_is_near_the_limit_and_every_real_label_map_is_beyond() -> None:
    for path in sorted(DATA.glob("*/*/anat/*_T1w.nii.gz")):
        scan = read_volume(path).voxels
        assert flat_share(scan) < 0.35
        top = np.percentile(scan, 99.9)
        spacing = nibabel.load(path).header.get_zooms()[:3]
        blurred = gaussian_filter(scan, 8 / 2.355 / np.array(spacing))
        for changed, greys in ((scan, 32), (blurred, 64)):
            rounded = np.round(np.clip(changed / top, 0, 1) * greys)
            assert not refused(rounded), path
    for path in (DATA.parent / "labelmaps").glob("*.nii.gz"):
        whole = np.asarray(nibabel.load(path).dataobj)
        assert all(refused(whole[::step, ::step, ::step]) for step in (1, 2, 3))
