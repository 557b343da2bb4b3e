"""The model grid and the region volumes of a registered head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from preprocessing_head import affine_of, template_work
from scipy.ndimage import affine_transform, gaussian_filter, map_coordinates

from client.archive.problems import Defect
from client.preprocessing.image import Image
from client.preprocessing.region_volumes import region_volumes
from client.preprocessing.resample_step import Resample
from shared_model.atlas.seeded import seeded_atlas
from shared_model.grid import ModelGrid

GRID = ModelGrid(spacing_mm=4.0)
KNOWN = affine_of((-20, 10, 5), (0.9, 1.0, 1.1), (10, 20, -30))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_one_interpolation_lands_where_the_affines_say() -> None:
    # Smooth, so that neither blur nor interpolation changes it much; turned against the grid.
    rng = np.random.default_rng(0)
    voxels = gaussian_filter(rng.normal(size=(90, 100, 80)), 8).astype(np.float32)
    affine = affine_of((30, 20, -40), (2, 2, 2), (-60, -20, -110))
    scan = template_work()
    to_mni = affine_of((5, 5, 5), (1.1, 1, 1), (3, 2, 1))
    work = Resample(GRID, strip=False)(
        replace(scan, image=Image(voxels, affine), brain=voxels > -1, to_mni=to_mni)
    )
    assert work.on_grid is not None
    index = np.indices(GRID.shape).reshape(3, -1)
    back = np.linalg.inv(to_mni @ affine) @ GRID.affine
    where = back[:3, :3] @ index + back[:3, 3:]
    inside = ((where > 5) & (where < np.array([[84], [94], [74]]))).all(axis=0)
    assert inside.sum() > 5000
    expected = map_coordinates(voxels, where[:, inside], order=1)
    found = work.on_grid.reshape(-1)[inside]
    np.testing.assert_allclose(found, expected, atol=0.1 * expected.std())


def test_the_blur_before_a_coarse_grid_is_the_same_for_any_orientation() -> None:
    # A blob widens alike in all directions, whichever way the stored, unequal axes lie.
    blob_mm2 = 49.0
    for degrees in ((0.0, 0.0, 0.0), (30.0, 40.0, -25.0)):
        affine = affine_of(degrees, (1.0, 1.0, 2.0))
        affine[:3, 3] = -affine[:3, :3] @ np.full(3, 40.0)
        native = affine[:3, :3] @ np.indices((81, 81, 81)).reshape(3, -1) + affine[:3, 3:]
        voxels = np.exp(-0.5 * (native**2).sum(axis=0) / blob_mm2).reshape(81, 81, 81)
        voxels = voxels.astype(np.float32)
        scan = replace(
            template_work(), image=Image(voxels, affine), brain=voxels >= 0, to_mni=np.eye(4)
        )
        out = Resample(GRID, strip=False)(scan).on_grid
        assert out is not None
        mm = np.indices(GRID.shape).reshape(3, -1) * 4 + GRID.affine[:3, 3:]
        weight = out.reshape(-1) / out.sum()
        mean = mm @ weight
        covariance = (mm - mean[:, None]) * weight @ (mm - mean[:, None]).T
        # (16 - s^2) / (8 ln 2) for the blur, at most s^2 / 4 for linear interpolation; s is 1, 2.
        np.testing.assert_allclose(np.linalg.eigvalsh(covariance) - blob_mm2, 2.6, atol=0.6)
        np.testing.assert_allclose(mean, 0, atol=0.3)


def test_a_stripped_brain_keeps_its_greys_up_to_the_edge() -> None:
    scan = template_work()
    assert scan.brain is not None
    # A bright skull around an even brain must neither bleed in nor must the edge fade.
    voxels = np.where(scan.brain, np.float32(100), np.float32(900))
    even = replace(scan, image=Image(voxels, scan.image.affine), to_mni=np.eye(4))
    work = Resample(GRID)(even)
    assert work.on_grid is not None
    assert work.brain_on_grid is not None
    np.testing.assert_allclose(work.on_grid[work.brain_on_grid], 100, rtol=1e-4)
    assert not work.on_grid[~work.brain_on_grid].any()
    assert work.findings["brain_outside_grid"] < 0.01
    kept = Resample(GRID, strip=False)(even)
    assert kept.on_grid is not None
    assert kept.on_grid[~work.brain_on_grid].max() > 500


def test_a_brain_beside_the_grid_is_refused() -> None:
    scan = replace(template_work(), to_mni=affine_of(shift_mm=(500, 0, 0)))
    with pytest.raises(Defect):
        Resample(GRID)(scan)


def test_region_volumes_are_those_of_the_atlas_over_the_determinant() -> None:
    atlas = seeded_atlas()
    work = replace(template_work(KNOWN), to_mni=np.linalg.inv(KNOWN))
    found = region_volumes(work, atlas)
    native = atlas.region_ml() * 1000 * np.linalg.det(KNOWN[:3, :3])
    large = native > 2000
    np.testing.assert_allclose(found.mm3[large], native[large], rtol=0.08)
    np.testing.assert_allclose(found.gm_mm3 + found.wm_mm3 + found.csf_mm3, found.mm3, rtol=1e-4)
    assert found.plausible
    assert found.template_scaled_mm3 == pytest.approx(found.brain_mask_mm3, rel=0.02)
    total = found.brain_gm_mm3 + found.brain_wm_mm3 + found.brain_csf_mm3
    assert total == pytest.approx(found.brain_mask_mm3, rel=1e-4)
    assert set(found.as_json()["regions"]) == set(atlas.names)


def test_atrophy_shows_as_fluid_in_the_region() -> None:
    atlas = seeded_atlas()
    scan = replace(template_work(spacing_mm=1.5), to_mni=np.eye(4))
    index = atlas.names.index("hippocampus_left")
    matrix = np.linalg.inv(atlas.affine) @ scan.image.affine
    labels = affine_transform(
        atlas.labels, matrix[:3, :3], matrix[:3, 3], output_shape=scan.image.voxels.shape, order=0
    )
    region = np.argwhere(labels == index + 1)
    gone = region[::1][: len(region) // 3]
    voxels = scan.image.voxels.copy()
    dark = float(np.percentile(voxels[scan.brain], 1))
    voxels[tuple(gone.T)] = dark
    before = region_volumes(scan, atlas)
    after = region_volumes(replace(scan, image=Image(voxels, scan.image.affine)), atlas)
    assert after.mm3[index] == before.mm3[index]
    assert after.gm_mm3[index] < 0.85 * before.gm_mm3[index]
    assert after.csf_mm3[index] > before.csf_mm3[index] + 0.2 * before.mm3[index]
