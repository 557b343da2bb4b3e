"""Detection figures against closed forms, brute force and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from shared_model.metrics.boxes import boxes_of, iou, suppressed
from shared_model.metrics.detection import (
    Found,
    Judged,
    average_precision_over,
    froc,
    judge,
    sensitivity_over,
)
from shared_model.metrics.lesion_summary import detection_summary

NOTHING = Found(np.zeros((0, 6)), np.zeros(0))
NO_BOXES = np.zeros((0, 6))


def cube(corner: float, side: float = 4.0) -> list[float]:
    return [corner] * 3 + [corner + side] * 3


def test_boxes_of_numbers_and_their_overlap() -> None:
    numbers = np.zeros((9, 9, 9), np.int16)
    numbers[1:3, 2:5, 4:5], numbers[6, 6, 6] = 1, 3
    assert boxes_of(numbers).tolist() == [[1, 2, 4, 3, 5, 5], [6, 6, 6, 7, 7, 7]]
    assert boxes_of(np.zeros((3, 3, 3), np.int16)).shape == (0, 6)
    one, shifted = np.array([cube(0)]), np.array([cube(2), cube(4), cube(0)])
    assert iou(one, shifted)[0].tolist() == pytest.approx([8 / (128 - 8), 0, 1])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_the_overlap_equals_counted_voxels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = np.sort(rng.integers(0, 9, (2, 2, 3)), axis=1)
    boxes[:, 1] += 1
    masks = []
    for low, high in boxes:
        mask = np.zeros((10, 10, 10), dtype=bool)
        mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
        masks.append(mask)
    rows = boxes.reshape(2, 6).astype(float)
    expected = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    assert iou(rows[:1], rows[1:])[0, 0] == pytest.approx(expected)


def test_suppression_keeps_the_best_of_those_that_overlap() -> None:
    boxes = np.array([cube(0), cube(0.5), cube(20), cube(1.2)])
    assert suppressed(boxes, np.array([0.5, 0.9, 0.2, 0.1]), 0.1).tolist() == [1, 2]
    assert suppressed(NO_BOXES, np.zeros(0), 0.1).size == 0


def test_a_lesion_is_found_once_and_by_the_best() -> None:
    found = Found(np.array([cube(0), cube(0.2), cube(40)]), np.array([0.6, 0.9, 0.7]))
    judged = judge([found, NOTHING], [np.array([cube(0)]), np.array([cube(9)])], 0.25)
    assert judged.scores.tolist() == [0.9, 0.7, 0.6]
    assert judged.right.tolist() == [True, False, False]
    assert judged.lesions.tolist() == [1, 1]


def test_sensitivity_at_false_positives_of_a_hand_made_list() -> None:
    judged = Judged(
        np.array([0.9, 0.8, 0.7, 0.6, 0.5]),
        np.array([True, False, True, False, True]),
        np.array([0, 0, 1, 1, 0]),
        np.array([2, 2]),
    )
    assert froc(judged, (0.25, 0.5, 1.0)) == {0.25: 0.25, 0.5: 0.5, 1.0: 0.75}
    # Every draw by itself: the second scan alone has its lesion before its false positive.
    one_only = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert sensitivity_over(judged, 0.25, one_only).tolist() == [0.5, 0.5]
    area = average_precision_over(judged, np.ones((1, 2)))[0]
    assert area == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)


def test_degenerate_scans_have_a_defined_figure() -> None:
    once = np.ones((1, 1))
    silent = judge([NOTHING], [np.array([cube(0)])], 0.1)
    assert sensitivity_over(silent, 1, once) == 0
    assert average_precision_over(silent, once) == 0
    for found in (NOTHING, Found(np.array([cube(0)]), np.array([0.5]))):
        clean = judge([found], [NO_BOXES], 0.1)
        assert math.isnan(sensitivity_over(clean, 1, once)[0])
        assert math.isnan(average_precision_over(clean, once)[0])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_precision_that_only_falls_has_the_area_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hits = int(rng.integers(1, 6))
    # First hits, then misses, then one more hit: the envelope changes nothing.
    right = np.array([True] * hits + [False] * int(rng.integers(0, 5)) + [True])
    judged = Judged(np.linspace(1, 0.1, len(right)), right, np.zeros(len(right), np.int64),
                    np.array([right.sum()]))  # fmt: skip
    expected = average_precision_score(right, judged.scores)
    assert average_precision_over(judged, np.ones((1, 1)))[0] == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_froc_equals_trying_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, scans = int(rng.integers(1, 12)), int(rng.integers(1, 4))
    scores = np.sort(np.round(rng.random(n), 1))[::-1]
    judged = Judged(scores, rng.random(n) < 0.5, rng.integers(0, scans, n), np.full(scans, 12))
    for allowed in (0.5, 1.0, 2.0):
        best = 0.0
        for threshold in [*scores, 2.0]:
            kept = judged.scores >= threshold
            if (kept & ~judged.right).sum() / scans <= allowed:
                best = max(best, (kept & judged.right).sum() / (12 * scans))
        assert froc(judged, (allowed,))[allowed] == pytest.approx(best)


def test_the_summary_resamples_patients_with_all_their_scans() -> None:
    good = Found(np.array([cube(0)]), np.array([0.9]))
    truth = [np.array([cube(0)])] * 3 + [NO_BOXES]
    out = detection_summary([good, good, NOTHING, NOTHING], truth, np.array([0, 0, 1, 2]), 200, 0)
    assert out["patients"] == 3
    assert out["lesions"] == 3
    assert out["sensitivity_at_1_fp"] == pytest.approx(2 / 3)
    # Of two patients with lesions a draw holds neither, one or both: 0, 2/3 or 1.
    assert out["sensitivity_at_1_fp_95"] == [0.0, 1.0]
