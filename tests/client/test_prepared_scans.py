"""From a scan to a model input: geometry, brain, greys, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from bids_fixture import brain, save_nifti, template
from scipy.ndimage import gaussian_filter, map_coordinates

from client.archive.nifti import read_volume
from client.archive.problems import Defect
from client.prepared.brain_mask import brain_prior, find_brain
from client.prepared.intensity import Intensity
from client.prepared.pipeline import prepare_scan
from client.prepared.resample import to_grid, to_ras, voxels_sha256
from shared_model.grid import ModelGrid

GRID = ModelGrid(spacing_mm=4.0)
ORIENTATIONS = ["RAS", "LAS", "LIA", "PSR", "ASL", "SPL"]
Floats = npt.NDArray[np.float32]


def write(folder: Path, volume: npt.NDArray[np.generic], axes: str = "RAS") -> Path:
    path = folder / f"{axes}.nii.gz"
    save_nifti(path, volume, axes)
    return path


def prepared(
    folder: Path, volume: npt.NDArray[np.generic], intensity: Intensity = "zscore"
) -> Floats:
    return prepare_scan(write(folder, volume), GRID, intensity).volume


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_orientation_of_the_file_changes_no_voxel(tmp_path: Path, axes: str) -> None:
    volume = brain(1)
    raw = read_volume(write(tmp_path, volume, axes))
    ras, affine = to_ras(raw.voxels, raw.affine)
    np.testing.assert_array_equal(ras, volume)
    np.testing.assert_allclose(affine, GRID.affine, atol=1e-5)
    np.testing.assert_allclose(to_grid(raw.voxels, raw.affine, GRID), volume, atol=1e-3)
    # An independent route to the same voxels.
    other = nibabel.as_closest_canonical(nibabel.load(tmp_path / f"{axes}.nii.gz"))
    np.testing.assert_array_equal(ras, np.asarray(other.dataobj, dtype=np.float32))


def oblique(spacing_mm: float) -> npt.NDArray[np.float64]:
    """A grid that is turned by 9 degrees about z, with an offset that fits no voxel."""
    turn = np.deg2rad(9.0)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, :3] *= spacing_mm
    affine[:3, 3] = [-80.3, -113.1, -70.7]
    return affine


def test_an_oblique_scan_is_interpolated_where_its_affine_says() -> None:
    affine = oblique(4.0)
    volume = gaussian_filter(np.random.default_rng(0).normal(size=(40, 44, 42)), 2)
    volume = volume.astype(np.float32)
    result = to_grid(volume, affine, GRID)
    # scipy, voxel by voxel, from MNI mm.
    voxels = np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), -1)
    mm = nibabel.affines.apply_affine(GRID.affine, voxels)
    where = nibabel.affines.apply_affine(np.linalg.inv(affine), mm)
    inside = ((where > 0) & (where < np.array(volume.shape) - 1)).all(-1)
    expected = map_coordinates(volume, np.moveaxis(where, -1, 0), order=1)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(result[inside], expected[inside], atol=2e-4)
    far = ((where < -1) | (where > np.array(volume.shape))).any(-1)
    assert far.any()
    assert not result[far].any()


def test_fine_structure_does_not_alias_and_the_mean_is_kept() -> None:
    # White noise at 1 mm. Interpolation alone keeps 0.35 of its spread at 4 mm, a point spread of
    # 4 mm (sigma 1.64 mm) 1 / ((4 pi)^(3/4) 1.64^(3/2)) = 0.07.
    noise = np.random.default_rng(0).normal(100, 50, (176, 208, 176)).astype(np.float32)
    result = to_grid(noise, ModelGrid(spacing_mm=1.0).affine, GRID)
    middle = result[4:-4, 4:-4, 4:-4]
    assert middle.mean() == pytest.approx(100, abs=0.5)
    assert middle.std() == pytest.approx(0.07 * 50, rel=0.1)


def test_a_scan_coarser_than_the_grid_is_not_blurred_further() -> None:
    affine = ModelGrid(spacing_mm=4.0).affine
    volume = brain(3)
    fine = ModelGrid(spacing_mm=2.0)
    result = to_grid(volume, affine, fine)
    back = result.reshape(44, 2, 52, 2, 44, 2).mean((1, 3, 5))
    # Averages of linear interpolation are the voxel and a little of its neighbours.
    assert np.corrcoef(back.ravel(), volume.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("intensity", ["zscore", "quantile"])
def test_greys_are_standardised_in_the_brain_and_constant_outside(
    tmp_path: Path, intensity: Intensity
) -> None:
    volume = brain(2)
    out = prepared(tmp_path, volume, intensity)
    assert out.shape == GRID.shape
    assert out.dtype == np.float32
    prior = brain_prior(GRID)
    assert (out[~prior.around] == -4).all()
    assert out.min() >= -4
    assert out.max() <= 4
    inside = out[out > -4]
    assert abs(np.median(inside)) < 0.05
    q1, q3 = np.percentile(inside, [25, 75])
    assert (q3 - q1) / 1.349 == pytest.approx(1, abs=0.05)


def test_scale_and_offset_of_a_scanner_vanish(tmp_path: Path) -> None:
    volume = brain(4)
    expected = prepared(tmp_path, volume)
    np.testing.assert_allclose(prepared(tmp_path, 37.5 * volume), expected, atol=2e-4)


def test_quantile_matching_removes_a_monotone_tissue_curve(tmp_path: Path) -> None:
    volume = brain(5, noise=2.0)
    curved = 900 * (volume / volume.max()) ** 1.8
    inside = brain_prior(GRID).core
    difference: dict[str, float] = {}
    modes: list[Intensity] = ["zscore", "quantile"]
    for mode in modes:
        one, two = (prepared(tmp_path, v, mode) for v in (volume, curved))
        difference[mode] = float(np.abs(one - two)[inside].mean())
    assert difference["quantile"] < 0.03
    assert difference["quantile"] < difference["zscore"] / 5


def test_a_scan_is_prepared_without_regard_to_others(tmp_path: Path) -> None:
    path = write(tmp_path, brain(6))
    first = prepare_scan(path, GRID, "quantile")
    prepared(tmp_path / "other", 1000 * brain(7), "quantile")
    second = prepare_scan(path, GRID, "quantile")
    np.testing.assert_array_equal(first.volume, second.volume)
    assert first.voxels_sha256 == second.voxels_sha256


@pytest.mark.parametrize("sigma", [0.0, 4.0, 12.0])
def test_background_noise_is_not_brain(sigma: float) -> None:
    rng = np.random.default_rng(0)
    clean = template(4.0)
    real, imaginary = (rng.normal(0, sigma, clean.shape) for _ in range(2))
    noisy = np.hypot(clean + real, imaginary).astype(np.float32)
    found = find_brain(noisy, GRID)
    truth = clean > 0
    overlap = 2 * (found.mask & truth).sum() / (found.mask.sum() + truth.sum())
    assert overlap > 0.97
    assert found.foreground_ml == pytest.approx(1886, rel=0.05)
    assert found.elsewhere < 0.02


def test_dark_ventricles_stay_in_the_brain() -> None:
    volume = brain(8)
    centre = tuple(np.rint(np.linalg.inv(GRID.affine) @ [0, -15, 18, 1]).astype(int)[:3])
    block = tuple(slice(c - 2, c + 3) for c in centre)
    volume[block] = 0
    assert find_brain(volume, GRID).mask[block].all()


def shifted(mm: float) -> Floats:
    return np.roll(brain(9), round(mm / 4), axis=1)


def test_small_residual_misalignment_is_fine_a_large_one_is_not(tmp_path: Path) -> None:
    assert prepared(tmp_path, shifted(4)).max() > 1
    with pytest.raises(Defect) as caught:
        prepared(tmp_path, shifted(80))
    assert caught.value.kind.code == "SMR-E240"


def test_a_small_object_is_refused_with_its_volume(tmp_path: Path) -> None:
    volume = np.zeros(GRID.shape, np.float32)
    volume[18:26, 22:30, 18:26] = np.random.default_rng(0).uniform(50, 90, (8, 8, 8))
    path = write(tmp_path, volume)
    with pytest.raises(Defect, match=r"33 ml|32 ml") as caught:
        prepare_scan(path, GRID, "zscore")
    assert str(path) in caught.value.case


def test_damage_that_only_a_whole_read_shows(tmp_path: Path) -> None:
    good = write(tmp_path, (brain(1) * 16).astype(np.int16))
    content = good.read_bytes()
    damaged = tmp_path / "damaged.nii.gz"
    for case in (content[:-1], content[: len(content) // 2], content[:-8] + bytes(8)):
        damaged.write_bytes(case)
        with pytest.raises(Defect) as caught:
            prepare_scan(damaged, GRID, "zscore")
        assert caught.value.kind.code == "SMR-E212"
        assert "damaged.nii.gz" in caught.value.case


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    volume = brain(1)
    volume[0, 0, 0] = value
    with pytest.raises(Defect, match="not finite") as caught:
        prepared(tmp_path, volume)
    assert caught.value.kind.code == "SMR-E215"


def test_a_constant_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Defect, match="3 everywhere") as caught:
        prepared(tmp_path, np.full(GRID.shape, 3, np.int16))
    assert caught.value.kind.code == "SMR-E215"


def test_slope_and_intercept_of_the_header_are_used(tmp_path: Path) -> None:
    stored = np.rint(brain(1) * 10).astype(np.int16)
    image = nibabel.Nifti1Image(stored, GRID.affine)
    image.set_sform(GRID.affine, 4)
    content = bytearray(image.to_bytes())
    # scl_slope and scl_inter, at bytes 112 and 116 of a NIfTI-1 header.
    content[112:120] = np.array([0.1, 5.0], "<f4").tobytes()
    path = tmp_path / "slope.nii"
    path.write_bytes(bytes(content))
    np.testing.assert_allclose(read_volume(path).voxels, stored * 0.1 + 5, rtol=1e-5)


def test_the_digest_of_voxels_ignores_how_they_are_stored(tmp_path: Path) -> None:
    volume = np.rint(brain(1)).astype(np.int16)
    digests = set()
    for axes in ORIENTATIONS:
        raw = read_volume(write(tmp_path, volume, axes))
        digests.add(voxels_sha256(raw.voxels, raw.affine))
    raw = read_volume(write(tmp_path, volume.astype(np.float32)))
    digests.add(voxels_sha256(raw.voxels, raw.affine))
    assert len(digests) == 1
    volume[20, 20, 20] += 1
    raw = read_volume(write(tmp_path, volume))
    assert voxels_sha256(raw.voxels, raw.affine) not in digests


def test_nothing_warns(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volume = prepared(tmp_path, brain(1), "quantile")
    assert np.isfinite(volume).all()
