"""What is measured on a scan, against scans whose properties are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import from_matvec
from quality_heads import GRID, HEADER, flat_head, labels
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from client.preprocessing.image import Image, Work
from client.quality.background import measure_background
from client.quality.entropy import entropy_focus
from client.quality.geometry import brain_at_edge, placement
from client.quality.header import read_header
from client.quality.limits import QualityLimits
from client.quality.measures import measure_scan
from client.quality.scan_measures import ScanMeasures
from client.quality.sharpness import smoothness_mm
from client.quality.tissue import split_tissues
from client.quality.verdict import judge_scan


@pytest.mark.parametrize("noise", [0.03, 0.06, 0.12])
def test_signal_and_contrast_to_noise_of_known_tissues(noise: float) -> None:
    found = measure_scan(flat_head(noise), HEADER, GRID)
    assert found.snr_white == pytest.approx(1 / noise, rel=0.12)
    assert found.snr_grey == pytest.approx(0.6 / noise, rel=0.15)
    assert found.white_over_grey == pytest.approx(1 / 0.6, rel=0.04)
    assert found.cjv == pytest.approx(2 * noise / 0.4, rel=0.15)
    # The air's Rayleigh noise has a MAD of 0.4485 of the Gaussian deviation.
    air = 1.4826 * 0.4485 * noise
    assert found.noise_percent == pytest.approx(100 * air, rel=0.05)
    assert found.cnr == pytest.approx(0.4 / np.sqrt(2 * noise**2 + air**2), rel=0.15)


def test_tissues_are_told_apart_by_where_they_lie() -> None:
    work = flat_head(0.04)
    tissues = split_tissues(work.image, labels() > 0, np.eye(4))
    assert tissues is not None
    means = (tissues.fluid.mean, tissues.grey.mean, tissues.white.mean)
    assert means == pytest.approx((0.3, 0.6, 1.0), abs=0.02)
    shares = np.bincount(labels().ravel())[1:] / (labels() > 0).sum()
    assert (tissues.fluid.share, tissues.grey.share, tissues.white.share) == pytest.approx(
        shares, abs=0.03
    )


def test_an_image_with_white_below_grey_is_no_t1w_image() -> None:
    found = measure_scan(flat_head(0.05, greys=(0.0, 1.0, 0.6, 0.4)), HEADER, GRID)
    assert found.white_over_grey is not None
    assert found.white_over_grey < 1
    verdict = judge_scan(found, QualityLimits())
    assert verdict.result == "fail"
    assert verdict.final
    assert "white-over-grey-low" in {reason.id for reason in verdict.reasons}


def test_a_good_head_passes_and_is_kept_as_json() -> None:
    found = measure_scan(flat_head(0.06), HEADER, GRID)
    assert judge_scan(found, QualityLimits()).result == "pass"
    assert ScanMeasures.model_validate_json(found.model_dump_json()) == found


def test_a_stripped_scan_has_no_noise_to_measure_and_still_passes() -> None:
    found = measure_scan(flat_head(0.06, skull=False), HEADER, GRID)
    assert found.noise_percent is None
    assert found.fber is None
    assert "set to zero" in found.absent["noise_percent"]
    assert found.background_zero_share == 1
    assert judge_scan(found, QualityLimits()).result == "pass"


def test_a_scan_that_was_not_registered_fails_for_good() -> None:
    work = replace(flat_head(), to_mni=None, on_grid=None, brain_on_grid=None, findings={})
    found = measure_scan(work, HEADER, GRID)
    assert found.dice is None
    assert found.snr_white is None
    assert found.absent["dice"] == "the scan was not registered"
    verdict = judge_scan(found, QualityLimits())
    assert [reason.id for reason in verdict.reasons] == ["not-registered"]
    assert verdict.final


def test_an_aligned_scan_without_findings_is_held_against_the_template() -> None:
    found = measure_scan(replace(flat_head(), findings={}), HEADER, GRID)
    assert found.dice is not None
    assert found.dice > 0.97
    assert found.correlation is not None
    assert found.correlation > 0.5
    assert found.centre_shift_mm == pytest.approx(0, abs=0.01)
    assert found.lost_share == pytest.approx(0, abs=1e-6)


def test_a_sphere_is_no_brain() -> None:
    centre = (np.array(GRID.shape) - 1) / 2
    radius = np.linalg.norm(np.indices(GRID.shape) - centre[:, None, None, None], axis=0)
    ball = radius < 36
    voxels = np.where(ball, 1.0, 0).astype(np.float32)
    work = Work(Image(voxels, GRID.affine), ball, np.eye(4), voxels, ball)
    verdict = judge_scan(measure_scan(work, HEADER, GRID), QualityLimits())
    assert {"no-tissues", "dice-low"} <= {reason.id for reason in verdict.reasons}


def test_without_a_brain_nothing_is_measured() -> None:
    with pytest.raises(ValueError, match="brain"):
        measure_scan(replace(flat_head(), brain=None), HEADER, GRID)


def test_noise_is_found_whatever_its_level() -> None:
    for noise in (0.02, 0.1, 0.25):
        work = flat_head(noise)
        assert work.brain is not None
        background = measure_background(work.image, work.brain)
        assert background.missing is None
        assert background.deviation == pytest.approx(1.4826 * 0.4485 * noise, rel=0.1)


def test_a_tight_field_of_view_has_no_air() -> None:
    work = flat_head(0.05)
    assert work.brain is not None
    cut = tuple(slice(side // 4, -side // 4) for side in GRID.shape)
    image = Image(np.ascontiguousarray(work.image.voxels[cut]), GRID.affine)
    assert measure_background(image, work.brain[cut]).missing is not None


def test_a_cut_off_brain_is_seen() -> None:
    work = flat_head()
    assert work.brain is not None
    assert brain_at_edge(work.image, work.brain).faces == 0
    cut = work.brain[:, :, 30:]
    found = brain_at_edge(Image(work.image.voxels[:, :, 30:], GRID.affine), cut)
    assert found.faces == 1
    assert found.cm2 == pytest.approx(cut[:, :, 0].sum() * 0.04)
    reasons = judge_scan(
        measure_scan(flat_head(), HEADER, GRID).model_copy(update={"edge_cm2": found.cm2}),
        QualityLimits(),
    ).reasons
    assert [reason.id for reason in reasons] == ["edge-cm2-high"]


@pytest.mark.parametrize("width_mm", [3.0, 5.0])
def test_the_width_of_a_blur_is_recovered(width_mm: float) -> None:
    rng = np.random.default_rng(0)
    spacing = np.array([1.0, 0.8, 1.25])
    noise = rng.normal(size=(80, 90, 70))
    blurred = gaussian_filter(noise, width_mm / 2.3548 / spacing).astype(np.float32)
    inside = np.zeros(noise.shape, dtype=bool)
    inside[8:-8, 8:-8, 8:-8] = True
    image = Image(blurred, np.diag([*spacing, 1.0]))
    assert smoothness_mm(image, inside) == pytest.approx(width_mm, rel=0.06)


@given(st.integers(2, 9), st.integers(2, 9), st.floats(0.01, 1e4), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_entropy_lies_between_one_voxel_and_all(i: int, j: int, scale: float, seed: int) -> None:
    voxels = np.random.default_rng(seed).random((i, j, 4)).astype(np.float32)
    value = entropy_focus(voxels)
    assert 0 < value <= 1 + 1e-6
    assert entropy_focus((voxels * np.float32(scale)).astype(np.float32)) == pytest.approx(
        value, rel=1e-3
    )
    single = np.zeros_like(voxels)
    single[0, 0, 0] = scale
    assert entropy_focus(single) == pytest.approx(0, abs=1e-6)
    assert entropy_focus(np.full_like(voxels, scale)) == pytest.approx(1, rel=1e-4)


@given(
    st.floats(0, 179),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.1, 1)),
    st.tuples(st.floats(0.6, 1.6), st.floats(0.6, 1.6), st.floats(0.6, 1.6)),
    st.booleans(),
)
@settings(deadline=None)
def test_an_affine_map_is_taken_apart(
    degrees: float,
    axis: tuple[float, float, float],
    scales: tuple[float, float, float],
    mirror: bool,
) -> None:
    direction = np.array(axis) / np.linalg.norm(axis)
    rotation = Rotation.from_rotvec(np.radians(degrees) * direction).as_matrix()
    linear = rotation @ np.diag(scales)
    found = placement(from_matvec(-linear if mirror else linear, [3, -2, 1]))
    assert found.rotation_degrees == pytest.approx(degrees, abs=1e-3)
    assert found.stretch == pytest.approx(max(scales) / min(scales))
    assert found.determinant == pytest.approx((-1 if mirror else 1) * np.prod(scales))


def test_the_header_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 900, (20, 24, 16), dtype=np.int16)
    turned = Rotation.from_euler("x", 10, degrees=True).as_matrix() @ np.diag([-1.2, 1.0, 1.0])
    image = nibabel.Nifti1Image(stored, from_matvec(turned, [5, 6, 7]))
    image.header.set_slope_inter(0.5, 0)
    nibabel.save(image, tmp_path / "a.nii.gz")
    facts = read_header(tmp_path / "a.nii.gz", stored)
    assert facts.orientation == "LAS"
    assert facts.spacing_mm == pytest.approx((1.2, 1.0, 1.0))
    assert facts.shape == (20, 24, 16)
    assert facts.field_of_view_mm == pytest.approx((24, 24, 16))
    assert facts.oblique_degrees == pytest.approx(10, abs=0.01)
    assert facts.dtype == "int16"
    assert facts.scaled
    assert facts.grey_levels == len(np.unique(stored))
    assert not facts.handedness_disagrees


def test_forms_that_disagree_on_left_and_right_are_seen(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4))
    image.set_sform(np.diag([-1.0, 1, 1, 1]), code=1)
    image.set_qform(np.eye(4), code=1)
    nibabel.save(image, tmp_path / "a.nii")
    facts = read_header(tmp_path / "a.nii", np.ones((4, 4, 4)))
    assert facts.handedness_disagrees
    # With one of the two unset there is nothing to disagree.
    image.set_qform(np.eye(4), code=0)
    nibabel.save(image, tmp_path / "b.nii")
    assert not read_header(tmp_path / "b.nii", np.ones((4, 4, 4))).handedness_disagrees
