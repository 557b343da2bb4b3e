"""Known affines come back, and what is no brain, or lies wrongly, is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from preprocessing_head import affine_of, template_work
from scipy.ndimage import gaussian_filter, map_coordinates

from client.archive.problems import Defect, Problem
from client.preprocessing.agreement import agreement
from client.preprocessing.image import Image, Work
from client.preprocessing.mattes import search_mattes
from client.preprocessing.pyramid import level
from client.preprocessing.registration import RegisterToMNI, decomposed, turn_degrees
from client.preprocessing.template import TEMPLATE_BRAIN_MM3, mni_template

REGISTER = RegisterToMNI(levels_mm=(8.0, 4.0))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def error_mm(to_mni: np.ndarray, known: np.ndarray) -> np.ndarray:
    template = mni_template()
    index = np.argwhere(template.mask[::6, ::6, ::6]) * 6
    points = index @ template.affine[:3, :3].T + template.affine[:3, 3]
    left = to_mni @ known
    return np.linalg.norm(points @ left[:3, :3].T + left[:3, 3] - points, axis=1)


@pytest.mark.parametrize(
    "known",
    [
        affine_of(),
        affine_of((-25, 5, -10), (0.9, 1.05, 0.95), (12, -30, 40)),
        affine_of((20, -15, 20), (1.1, 0.92, 1.0), (-200, 90, 5)),
    ],
    ids=["none", "flexed", "turned"],
)
def test_a_known_affine_is_recovered_to_under_a_voxel(known: np.ndarray) -> None:
    work = REGISTER(template_work(known))
    assert work.to_mni is not None
    assert error_mm(work.to_mni, known).max() < 1.0
    assert np.linalg.det(work.to_mni[:3, :3]) > 0
    assert work.findings["registration_method"] == "correlation"
    assert work.findings["registration_dice"] > 0.97
    assert work.findings["registration_correlation"] > 0.95


@pytest.mark.slow
def test_the_same_scan_gives_the_same_map_on_any_number_of_threads() -> None:
    scan = template_work(affine_of((5, 5, 5)))
    first = REGISTER(scan).to_mni
    torch.set_num_threads(2)
    second = REGISTER(scan).to_mni
    assert torch.get_num_threads() == 2
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("freedom", "rigid"), [(6, True), pytest.param(9, False, marks=pytest.mark.slow)]
)
def test_degrees_of_freedom(freedom: int, rigid: bool) -> None:
    known = affine_of((8, 0, -6), (1, 1, 1) if rigid else (0.9, 1.0, 1.1))
    step = replace(REGISTER, degrees_of_freedom=freedom)
    work = step(template_work(known))
    assert work.to_mni is not None
    assert error_mm(work.to_mni, known).max() < 1.0
    if rigid:
        np.testing.assert_allclose(work.findings["scales"], 1, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [(1, -1, 1), pytest.param((1, -1, -1), marks=pytest.mark.slow)],
    ids=["front-back", "rolled"],
)
def test_a_header_with_wrong_axes_is_refused(wrong: tuple[int, int, int]) -> None:
    scan = template_work()
    lying = Image(scan.image.voxels, np.diag([*map(float, wrong), 1.0]) @ scan.image.affine)
    with pytest.raises(Defect) as raised:
        REGISTER(replace(scan, image=lying))
    assert raised.value.kind is Problem.NOT_REGISTERED
    assert "header" in raised.value.case


@pytest.mark.slow
def test_an_ellipsoid_of_noise_is_refused_by_both_methods() -> None:
    grid = np.indices((90, 100, 80)) - np.array([45, 50, 40])[:, None, None, None]
    mask = ((grid / np.array([35, 42, 30])[:, None, None, None]) ** 2).sum(axis=0) < 1
    noise = gaussian_filter(np.random.default_rng(0).normal(size=mask.shape), 3)
    greys = np.where(mask, 500 + 4000 * noise, 0).astype(np.float32)
    scan = Work(Image(np.maximum(greys, 0), np.diag([2.0, 2.0, 2.0, 1.0])), mask)
    with pytest.raises(Defect) as raised:
        REGISTER(scan)
    assert raised.value.kind is Problem.NOT_REGISTERED
    assert "Dice" in raised.value.case
    assert "correlation" in raised.value.case


@pytest.mark.slow
def test_the_fallback_agrees_with_the_search() -> None:
    known = affine_of((-6, 3, 4), (0.95, 1.0, 1.05), (5, -8, 3))
    scan = template_work(known, spacing_mm=3.0)
    assert scan.brain is not None
    found = search_mattes(scan.image.voxels, scan.brain, scan.image.affine, mni_template())
    assert error_mm(found, known).max() < 2.0
    met = agreement(scan.image.voxels, scan.brain, scan.image.affine, found)
    assert met.dice > 0.95


def test_a_brain_moved_out_of_sight_has_no_overlap() -> None:
    scan = template_work()
    assert scan.brain is not None
    away = affine_of(shift_mm=(400, 0, 0))
    assert agreement(scan.image.voxels, scan.brain, scan.image.affine, away).dice == 0


def test_no_signal_is_refused() -> None:
    scan = template_work()
    dark = replace(scan, image=Image(np.zeros_like(scan.image.voxels), scan.image.affine))
    with pytest.raises(Defect) as raised:
        REGISTER(dark)
    assert raised.value.kind is Problem.NOT_REGISTERED


def test_the_templates_volume_is_the_documented_one() -> None:
    assert float(mni_template().mask.sum()) == TEMPLATE_BRAIN_MM3


angles = st.floats(-80, 80)
sizes = st.floats(0.7, 1.4)


@given(st.tuples(angles, angles, angles), st.tuples(sizes, sizes, sizes))
@settings(max_examples=50, deadline=None)
def test_the_named_parameters_are_those_of_the_map(
    degrees: tuple[float, float, float], scales: tuple[float, float, float]
) -> None:
    named = decomposed(affine_of(degrees, scales))
    np.testing.assert_allclose(named["scales"], scales, atol=1e-4)
    np.testing.assert_allclose(named["shears"], 0, atol=1e-4)
    np.testing.assert_allclose(named["rotation_degrees"], degrees, atol=1e-2)
    assert named["determinant"] == pytest.approx(np.prod(scales), abs=1e-4)


@given(st.floats(0, 179))
@settings(max_examples=30, deadline=None)
def test_the_angle_of_a_turn(degrees: float) -> None:
    assert turn_degrees(affine_of((degrees, 0, 0), (1.2, 1.2, 1.2))) == pytest.approx(
        degrees, abs=1e-3
    )


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_a_level_is_read_where_its_affine_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    volume = np.pad(rng.uniform(1, 2, (5, 6, 7)).astype(np.float32), 2)
    affine = affine_of(tuple(rng.uniform(-40, 40, 3)), (1.5, 1.1, 2.0), (3, -4, 5))
    inside = rng.uniform(2, [6, 7, 8], (50, 3))
    points = inside @ affine[:3, :3].T + affine[:3, 3]
    # As fine as the volume: neither blurred nor thinned out.
    here = level(volume, affine, 1.0).at(
        torch.from_numpy(points.astype(np.float32)), torch.eye(4, dtype=torch.float64)
    )
    expected = map_coordinates(volume, inside.T, order=1)
    np.testing.assert_allclose(here.numpy(), expected, atol=1e-4)
