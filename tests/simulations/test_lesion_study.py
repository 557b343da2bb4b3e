"""Planted lesions are what was asked for; the threshold and the tables do what they say."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt, label
from typer.testing import CliRunner

from client.training.examples import PatientExamples
from simulations.cli import app
from simulations.lesions.archive import encode_numbers
from simulations.lesions.kinds import MICROBLEED_LIKE, STROKE_LIKE, LesionKind
from simulations.lesions.plans import Schedule, lesion_plan
from simulations.lesions.planting import plant_lesions
from simulations.lesions.tables import tables
from simulations.lesions.threshold import Threshold, best_threshold

SHAPE, MM = (60, 60, 60), 3.0
AFFINE = np.diag([MM, MM, MM, 1.0])


def ball() -> np.ndarray:
    grid = np.indices(SHAPE) - 29.5
    return np.asarray((grid**2).sum(0) < 28**2)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([STROKE_LIKE, MICROBLEED_LIKE]))
def test_lesions_have_number_size_grey_and_distance(seed: int, kind: LesionKind) -> None:
    brain = ball()
    clean = np.where(brain, 1.0, 0.0).astype(np.float32)
    rng = np.random.default_rng(seed)
    image, numbers = plant_lesions(
        clean, brain, AFFINE, kind.model_copy(update={"without": 0}), rng
    )
    count = int(numbers.max())
    assert kind.count[0] <= count <= kind.count[1]
    low, high = (4 / 3 * np.pi * axis**3 / MM**3 for axis in kind.semi_axes_mm)
    for number in range(1, count + 1):
        own = numbers == number
        assert 0.85 * low - 4 <= own.sum() <= 1.15 * high + 4
        assert image[own].min() < kind.greys[0][1] + 0.15
        others = (numbers > 0) & ~own
        if others.any():
            assert distance_transform_edt(~own, sampling=MM)[others].min() >= kind.gap_mm
    assert label(numbers > 0, np.ones((3, 3, 3)))[1] == count
    far = distance_transform_edt(numbers == 0, sampling=MM) > 12
    assert np.allclose(image[far], clean[far], atol=1e-3)


def test_a_scan_without_lesions_is_untouched_and_the_draw_repeats() -> None:
    brain = ball()
    clean = brain.astype(np.float32)
    never = STROKE_LIKE.model_copy(update={"without": 1.0})
    image, numbers = plant_lesions(clean, brain, AFFINE, never, np.random.default_rng(0))
    assert not numbers.any()
    assert np.array_equal(image, clean)
    twice = [
        plant_lesions(clean, brain, AFFINE, STROKE_LIKE, np.random.default_rng(3))[1]
        for _ in range(2)
    ]
    assert np.array_equal(*twice)


@pytest.mark.parametrize("orientation", ["RAS", "LAS", "PSR"])
def test_masks_are_stored_as_the_scan_is(tmp_path: Path, orientation: str) -> None:
    numbers = np.zeros((6, 7, 8), np.int16)
    numbers[1, 2, 3] = 1
    content = encode_numbers(numbers, AFFINE, orientation)
    assert content == encode_numbers(numbers, AFFINE, orientation)
    path = tmp_path / "mask.nii.gz"
    path.write_bytes(content)
    image = nibabel.load(path)
    assert "".join(nibabel.aff2axcodes(image.affine)) == orientation
    (where,) = np.argwhere(np.asarray(image.dataobj) == 1)
    assert np.allclose((image.affine @ [*where, 1])[:3], (AFFINE @ [1, 2, 3, 1])[:3])


def test_the_threshold_finds_clumps_inside_the_brain_only() -> None:
    volume = np.where(ball(), 0.0, -4.0).astype(np.float32)
    volume[25:30, 25:30, 25:30] = -2.5
    volume[40, 30, 30] = -2.5  # one voxel is no lesion
    numbers = np.zeros(SHAPE, np.int16)
    numbers[25:30, 25:30, 25:30] = 1
    patient = PatientExamples(
        "p", torch.from_numpy(volume)[None, None], torch.from_numpy(numbers)[None]
    )
    candidates = [Threshold(-2.0, 9.0, least, False) for least in (1, 20)]
    best = best_threshold([patient], [*candidates, Threshold(-5.0, 9.0, 1, False)])
    assert best == candidates[1]
    assert np.array_equal(best.mask(volume), numbers > 0)
    assert best.found(volume).boxes.tolist() == [[25, 25, 25, 30, 30, 30]]


def test_arms_differ_in_privacy_and_places_alone() -> None:
    schedule = Schedule(rounds=5)
    plans = [lesion_plan("unet", {"a": 9, "b": 9}, schedule, epsilon=e) for e in (None, 8.0)]
    assert plans[0].training == plans[1].training
    assert plans[1].privacy.noise_multiplier > 0
    assert plans[0].privacy.mode == "none"


def test_tables_show_intervals_and_what_is_not_determined() -> None:
    figures = {"dice": 0.9, "dice_95": [0.8, 0.95], "hausdorff_95_mm": None,
               "hausdorff_95_mm_95": [None, None], "lesion_f1": 1.0,
               "absolute_volume_error_ml": 2.0}  # fmt: skip
    text = tables({"segmentation": {"federated": {"seen": figures, "unseen": figures}}})
    assert "0.90 (0.80 to 0.95) | - | 1.00 | 2.00 |" in text
    refused = CliRunner().invoke(app, ["lesion-study", "--task", "nothing"])
    assert refused.exit_code == 2
