"""Effects of scanner and pose: what they do to greys, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.ndimage import center_of_mass
from template_scan import template_scan

from client.prepared.intensity import BACKGROUND
from client.training.augmentation.augment import apply_effects, augment
from client.training.augmentation.draw import Effects, draw_effects
from client.training.augmentation.effects import (
    add_noise,
    bias_field,
    blur,
    move,
    pose_matrix,
    rejoin_slices,
    sample_slices,
)
from client.training.augmentation.stream import augmentation_stream
from shared_model.augmentation import AugmentationSection

SPACING = 4.0
NOTHING = Effects(
    flip=False,
    pose=None,
    gamma=1.0,
    bias_rms=0.0,
    bias_modes=np.ones((4, 4, 4)),
    blur_fwhm_mm=(0.0, 0.0, 0.0),
    slice_mm=0.0,
    slice_axis=2,
    noise_sd=0.0,
    noise="rician",
    grey_scale=1.0,
    grey_shift=0.0,
)
ONE_EFFECT: dict[str, dict[str, Any]] = {
    "pose": {"pose": pose_matrix((3, -2, 4), (4, 0, -4), (1.05, 1, 0.97), SPACING)},
    "gamma": {"gamma": 1.3},
    "bias": {"bias_rms": 0.2},
    "blur": {"blur_fwhm_mm": (5.0, 6.0, 7.0)},
    "slices": {"slice_mm": 7.0},
    "noise": {"noise_sd": 0.3},
}


def after(**effects: Any) -> np.ndarray:
    return apply_effects(
        template_scan(), replace(NOTHING, **effects), augmentation_stream(1), SPACING
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**40), intensity=st.sampled_from(["zscore", "quantile"]))
def test_a_view_stays_on_the_scale_and_the_background_stays_background(
    seed: int, intensity: Any
) -> None:
    section = AugmentationSection(flip_probability=0.5)
    scan = template_scan()
    before = scan.copy()
    view = augment(scan, section, augmentation_stream(seed), SPACING, intensity)
    assert view.dtype == np.float32
    assert view.shape == scan.shape
    assert np.isfinite(view).all()
    assert view.min() == BACKGROUND
    assert view.max() <= -BACKGROUND
    # A pose of a few millimetres moves no brain to the corners, and nothing else makes any.
    corner = (slice(0, 4),) * 3
    assert (view[corner] == BACKGROUND).all()
    assert 0.7 < (view > BACKGROUND).sum() / (scan > BACKGROUND).sum() < 1.2
    np.testing.assert_array_equal(scan, before)


def test_without_effects_a_view_is_the_scan() -> None:
    np.testing.assert_allclose(after(), template_scan(), atol=1e-5)
    never = AugmentationSection(probability=0.0)
    view = augment(template_scan(), never, augmentation_stream(3), SPACING)
    np.testing.assert_allclose(view, template_scan(), atol=1e-5)


@pytest.mark.parametrize("effect", sorted(ONE_EFFECT))
def test_every_effect_changes_the_brain_and_keeps_median_and_quartile_distance(effect: str) -> None:
    view = after(**ONE_EFFECT[effect])
    scan = template_scan()
    assert np.abs(view - scan).mean() > 0.005
    old, new = (np.quantile(v[v > BACKGROUND], (0.25, 0.5, 0.75)) for v in (scan, view))
    # Voxels that were clipped at the dark end count as background afterwards.
    assert new[1] == pytest.approx(old[1], abs=0.03)
    assert new[2] - new[0] == pytest.approx(old[2] - old[0], rel=0.03)


def test_quantile_standardisation_undoes_contrast_as_it_does_for_test_scans() -> None:
    bent = replace(NOTHING, gamma=1.3)
    view = apply_effects(template_scan(), bent, augmentation_stream(1), SPACING, "quantile")
    np.testing.assert_allclose(view, template_scan(), atol=0.05)


def test_the_last_scale_and_shift_are_not_undone() -> None:
    scan = template_scan()
    inside = np.abs(scan) < 3
    view = after(grey_scale=0.9, grey_shift=0.1)
    np.testing.assert_allclose(view[inside], 0.9 * scan[inside] + 0.1, atol=1e-4)


def test_only_background_stays_in_a_volume_without_anything() -> None:
    empty = np.full((8, 8, 8), BACKGROUND, np.float32)
    view = augment(empty, AugmentationSection(), augmentation_stream(0), SPACING)
    np.testing.assert_array_equal(view, empty)


def test_a_flip_is_the_mirror_image_and_never_happens_by_default() -> None:
    view = after(flip=True)
    np.testing.assert_allclose(view[::-1], template_scan(), atol=1e-5)
    draws = (
        draw_effects(AugmentationSection(), SPACING, augmentation_stream(i)) for i in range(500)
    )
    assert not any(draw.flip for draw in draws)
    always = AugmentationSection(flip_probability=1.0)
    assert draw_effects(always, SPACING, augmentation_stream(0)).flip


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), flat=st.sampled_from(["log_gamma", "bias_rms", "rotation_deg"]))
def test_one_range_of_the_plan_changes_no_other_effect(seed: int, flat: str) -> None:
    first = draw_effects(AugmentationSection(), SPACING, augmentation_stream(seed))
    section = AugmentationSection.model_validate({flat: 0})
    second = draw_effects(section, SPACING, augmentation_stream(seed))
    own = {"log_gamma": "gamma", "bias_rms": "bias_rms", "rotation_deg": "pose"}[flat]
    for name in vars(first):
        if name != own:
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_draws_stay_within_the_ranges_of_the_plan_and_reach_them() -> None:
    section = AugmentationSection(probability=1.0, slice_mm=6.0)
    draws = [draw_effects(section, 2.0, augmentation_stream(i)) for i in range(400)]
    for values, low, high in (
        ([abs(np.log(d.gamma)) for d in draws], 0.0, section.log_gamma),
        ([d.bias_rms for d in draws], 0.0, section.bias_rms),
        ([max(d.blur_fwhm_mm) for d in draws], 0.0, section.blur_fwhm_mm),
        ([d.slice_mm for d in draws], 2.0, section.slice_mm),
        ([d.noise_sd for d in draws], 0.0, section.noise_sd),
        ([abs(d.grey_scale - 1) for d in draws], 0.0, section.grey_scale),
        ([abs(d.grey_shift) for d in draws], 0.0, section.grey_shift),
    ):
        assert low <= min(values)
        assert 0.9 * high < max(values) <= high + 1e-9
    assert {d.slice_axis for d in draws} == {0, 1, 2}


def ball(radius_voxels: float = 8.0, centre: tuple[int, int, int] = (15, 15, 15)) -> np.ndarray:
    grid = np.indices((31, 31, 31)) - np.reshape(centre, (3, 1, 1, 1))
    return (np.sqrt((grid**2).sum(0)) <= radius_voxels).astype(np.float32)


def test_a_shift_moves_by_so_many_millimetres() -> None:
    greys = ball()
    matrix = pose_matrix((0, 0, 0), (4.0, -6.0, 0.0), (1, 1, 1), 2.0)
    _, brain = move(greys, greys > 0, matrix)
    # The matrix leads from new to old voxels.
    np.testing.assert_allclose(center_of_mass(brain), (13, 18, 15), atol=1e-6)


def test_a_scale_changes_the_volume_and_a_rotation_does_not() -> None:
    greys = ball()
    for scale in (0.9, 1.1):
        _, brain = move(
            greys, greys > 0, pose_matrix((0, 0, 0), (0, 0, 0), (scale, scale, scale), 2.0)
        )
        assert brain.sum() / greys.sum() == pytest.approx(scale**-3, rel=0.06)
    _, brain = move(greys, greys > 0, pose_matrix((10, 20, 30), (0, 0, 0), (1, 1, 1), 2.0))
    assert brain.sum() / greys.sum() == pytest.approx(1, rel=0.03)


def test_a_rotation_turns_about_its_axis_by_its_angle() -> None:
    greys = ball(4.0, (25, 15, 15))
    _, brain = move(greys, greys > 0, pose_matrix((0, 0, 90), (0, 0, 0), (1, 1, 1), 2.0))
    x, y, z = center_of_mass(brain)
    np.testing.assert_allclose((x, z), (15, 15), atol=1e-4)
    assert abs(y - 15) == pytest.approx(10, abs=1e-4)


@pytest.mark.parametrize("shape", [(20, 24, 20), (31, 17, 44)])
def test_the_log_of_the_bias_field_has_mean_zero_and_the_given_size(
    shape: tuple[int, ...],
) -> None:
    modes = augmentation_stream(4).standard_normal((4, 4, 4))
    log = np.log(bias_field(shape, modes, 0.2))
    assert log.mean() == pytest.approx(0, abs=1e-5)
    assert np.sqrt((log**2).mean()) == pytest.approx(0.2, rel=1e-3)
    assert np.abs(np.diff(log, axis=0)).max() < 0.2  # smooth


def fwhm_of(profile: np.ndarray) -> float:
    position = np.arange(len(profile))
    mean = (profile * position).sum() / profile.sum()
    return 2.3548 * float(np.sqrt((profile * (position - mean) ** 2).sum() / profile.sum()))


def test_the_point_spread_has_the_given_width_along_each_axis() -> None:
    point = np.zeros((41, 41, 41), np.float32)
    point[20, 20, 20] = 1.0
    spread = blur(point, (0.0, 6.0, 10.0), 2.0)
    assert spread.sum() == pytest.approx(1, rel=1e-4)
    widths = [fwhm_of(spread.sum(tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    np.testing.assert_allclose(widths, [0, 3, 5], rtol=0.06, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_keep_ramps_and_lose_detail_along_their_axis_only(axis: int) -> None:
    shape = (24, 24, 24)
    ramp = np.indices(shape)[axis].astype(np.float32)
    slices = sample_slices(ramp, axis, 6.0, 2.0)
    assert slices.shape[axis] == 8
    back = rejoin_slices(slices, axis, 24)
    middle = [slice(None)] * 3
    middle[axis] = slice(8, 16)
    np.testing.assert_allclose(back[tuple(middle)], ramp[tuple(middle)], atol=1e-3)
    for other in range(3):
        wave = np.cos(np.pi * np.indices(shape)[other]).astype(np.float32)
        kept = rejoin_slices(sample_slices(wave, axis, 6.0, 2.0), axis, 24)
        assert (np.abs(kept).mean() > 0.99) == (other != axis)


def test_noise_has_its_size_and_rician_noise_is_the_rayleigh_one_where_nothing_is() -> None:
    dark = np.zeros((40, 40, 40), np.float32)
    gaussian = add_noise(dark, 0.2, "gaussian", augmentation_stream(1))
    assert gaussian.std() == pytest.approx(0.2, rel=0.02)
    assert gaussian.mean() == pytest.approx(0, abs=0.005)
    rician = add_noise(dark, 0.2, "rician", augmentation_stream(1))
    assert rician.mean() == pytest.approx(0.2 * np.sqrt(np.pi / 2), rel=0.02)
    bright = add_noise(dark + 5, 0.2, "rician", augmentation_stream(2))
    assert bright.mean() == pytest.approx(np.sqrt(25 + 0.04), rel=1e-3)


def test_the_section_is_off_by_default_and_refuses_fewer_views_than_it_draws() -> None:
    assert not AugmentationSection().enabled
    assert AugmentationSection().flip_probability == 0
    with pytest.raises(ValidationError, match="multiplicity"):
        AugmentationSection(views=2, multiplicity=3)
    with pytest.raises(ValidationError):
        AugmentationSection.model_validate({"gamma": 1})


@pytest.mark.parametrize("seed", range(5))
def test_a_single_voxel_survives_every_effect(seed: int) -> None:
    volume = np.full((8, 8, 8), BACKGROUND, np.float32)
    volume[4, 4, 4] = 1.0
    view = augment(volume, AugmentationSection(probability=1.0), augmentation_stream(seed), SPACING)
    assert np.isfinite(view).all()
    assert (view > BACKGROUND).sum() <= 8
