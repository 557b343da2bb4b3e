"""Masks against closed forms and MONAI's own implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import DiceMetric, compute_hausdorff_distance

from shared_model.metrics.lesion_summary import SegmentedScan, segmentation_summary
from shared_model.metrics.lesionwise import LesionCounts, lesion_counts
from shared_model.metrics.overlap import dice, hausdorff_95_mm, volume_error_ml

SHAPE = (12, 14, 10)


def box(*sides: tuple[int, int]) -> np.ndarray:
    out = np.zeros(SHAPE, dtype=bool)
    out[tuple(slice(*side) for side in sides)] = True
    return out


NONE = np.zeros(SHAPE, dtype=bool)
CUBE = box((2, 6), (2, 6), (2, 6))


def test_shifted_cubes_have_the_dice_and_the_distance_of_their_shift() -> None:
    moved = box((3, 7), (2, 6), (2, 6))
    assert dice(CUBE, moved) == pytest.approx(3 / 4)
    assert hausdorff_95_mm(CUBE, moved, 4.0) == 4.0
    assert volume_error_ml(CUBE, box((2, 6), (2, 6), (2, 4)), 4.0) == pytest.approx(32 * 0.064)


def test_what_nothing_determines_is_nan_and_a_failure_is_not() -> None:
    assert math.isnan(dice(NONE, NONE))
    assert math.isnan(hausdorff_95_mm(NONE, NONE, 2.0))
    assert volume_error_ml(NONE, NONE, 2.0) == 0
    for pair in ((CUBE, NONE), (NONE, CUBE)):
        assert dice(*pair) == 0
        assert hausdorff_95_mm(*pair, 2.0) == math.inf


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1.0, 2.0, 4.0]))
def test_random_masks_agree_with_monai(seed: int, spacing: float) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.random((2, *SHAPE)) < rng.uniform(0.01, 0.4)
    one[3, 3, 3] = other[8, 8, 8] = True
    pair = [torch.from_numpy(m)[None, None].float() for m in (one, other)]
    assert dice(one, other) == pytest.approx(float(DiceMetric()(*pair)), abs=1e-6)
    theirs = compute_hausdorff_distance(
        *pair, include_background=True, percentile=95, spacing=spacing
    )
    assert hausdorff_95_mm(one, other, spacing) == pytest.approx(float(theirs), abs=1e-4)


def test_lesions_are_counted_one_by_one_whatever_their_size() -> None:
    numbers = np.zeros(SHAPE, np.int16)
    numbers[1:3, 1:3, 1:3], numbers[6:10, 6:10, 5:9], numbers[1, 12, 8] = 1, 2, 7
    said = box((6, 10), (6, 10), (5, 7)) | box((4, 5), (1, 2), (1, 2))
    counts = lesion_counts(said, numbers)
    assert counts == LesionCounts(lesions=3, found=1, predicted=2, right=1)
    assert counts.f1 == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    assert math.isnan(lesion_counts(NONE, np.zeros(SHAPE, np.int16)).f1)
    assert lesion_counts(said, np.zeros(SHAPE, np.int16)).f1 == 0
    assert lesion_counts(NONE, numbers).f1 == 0


def scan(patient: int, value: float, counts: LesionCounts, error: float = 0.0) -> SegmentedScan:
    ml = 1.0 if counts.lesions else 0.0
    return SegmentedScan(patient, value, 4.0 if value else math.inf, error, ml, counts)


def test_a_patient_with_two_scans_counts_once_and_one_without_lesions_not_at_all() -> None:
    hit, clean = LesionCounts(1, 1, 1, 1), LesionCounts(0, 0, 0, 0)
    scans = [
        scan(0, 0.5, hit, 1.0),
        scan(0, 0.7, hit, -1.0),
        scan(1, 0.9, hit),
        SegmentedScan(2, math.nan, math.nan, 0.0, 0.0, clean),
        scan(3, 0.0, LesionCounts(0, 0, 2, 0), 3.0),
    ]
    out = segmentation_summary(scans, 200, 0)
    assert out["dice"] == pytest.approx((0.6 + 0.9) / 2)
    assert out["patients"] == 4
    assert out["patients_with_lesions"] == 2
    assert out["false_alarms"] == 1
    assert out["lesions"] == out["lesions_found"] == 3
    assert out["absolute_volume_error_ml"] == pytest.approx((1 + 0 + 0 + 3) / 4)
    assert out["lesion_f1"] == pytest.approx(2 * 1 * 0.6 / 1.6)
    low, high = out["dice_95"]
    assert low < out["dice"] < high


def test_a_missed_patient_counts_as_nought_and_infinitely_far() -> None:
    missed = scan(1, 0.0, LesionCounts(2, 0, 0, 0))
    out = segmentation_summary([scan(0, 0.8, LesionCounts(1, 1, 1, 1)), missed], 100, 0)
    assert out["dice"] == pytest.approx(0.4)
    assert out["hausdorff_95_mm"] is None


def test_no_lesion_anywhere_is_no_figure() -> None:
    empty = SegmentedScan(0, math.nan, math.nan, 0.0, 0.0, LesionCounts(0, 0, 0, 0))
    out = segmentation_summary([empty], 100, 0)
    assert out["dice"] is None
    assert out["dice_95"] == [None, None]
    assert out["lesion_f1"] is None
