from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_cohorts import cohort

from shared_model.metrics.bootstrap import draw_counts
from shared_model.metrics.selective import (
    aurc,
    aurc_over,
    coverage_risk,
    referral_rate_over,
    rule_out,
    rule_out_at,
)


@pytest.mark.parametrize("seed", range(4))
def test_coverage_risk_is_the_running_error_rate(seed: int) -> None:
    y, p = cohort(seed, n=50)
    order = np.argsort(-p.max(1))
    wrong = (p.argmax(1) != y)[order]
    expected = np.cumsum(wrong) / np.arange(1, 51)
    curve = coverage_risk(y, p)
    assert curve.risk == pytest.approx(expected)
    assert curve.area == aurc(y, p) == pytest.approx(expected.mean())
    assert curve.coverage[[0, -1]] == pytest.approx([0.02, 1])
    best = (np.cumsum(np.sort(wrong)) / np.arange(1, 51)).mean()
    assert curve.best_area == pytest.approx(best)
    assert curve.best_area <= curve.area + 1e-12


def test_tied_patients_are_accepted_in_the_mean_over_their_orders() -> None:
    p1 = np.array([0.9, 0.8, 0.8, 0.8, 0.6])
    y = np.array([0, 0, 1, 1, 1])
    p = np.stack([p1, 1 - p1], 1)
    wrong = (p.argmax(1) != y).astype(float)
    areas = []
    for middle in itertools.permutations([1, 2, 3]):
        order = [0, *middle, 4]
        areas.append((np.cumsum(wrong[order]) / np.arange(1, 6)).mean())
    assert aurc(y, p) == pytest.approx(np.mean(areas))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_area_over_draws_is_that_of_the_repeated_patients(seed: int, ties: bool) -> None:
    y, p = cohort(seed, n=25, ties=ties)
    counts = draw_counts(y, draws=4, seed=seed)
    for row, found in zip(counts, aurc_over(y, p, counts), strict=True):
        rows = np.repeat(np.arange(len(y)), row.astype(int))
        assert found == pytest.approx(coverage_risk(y[rows], p[rows]).area)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([0.8, 0.95, 1.0]))
def test_rule_out_is_the_best_of_all_thresholds(seed: int, ties: bool, npv: float) -> None:
    y, p = cohort(seed, n=40, ties=ties)
    ill, score = y != 0, 1 - p[:, 0]
    best = 1.0
    for t in score:
        cleared = score <= t
        if (~ill[cleared]).mean() >= npv - 1e-9:
            best = min(best, 1 - cleared.mean())
    found = rule_out(y, p, npv)
    assert found.referral_rate == pytest.approx(best)
    one = np.ones((1, len(y)))
    assert referral_rate_over(y, p, one, npv)[0] == pytest.approx(best)
    if best < 1:
        assert found.npv >= npv - 1e-9
        again = rule_out_at(y, p, found.threshold)
        assert again == found
        assert found.missed == pytest.approx((ill & (score <= found.threshold)).sum() / ill.sum())
    else:
        assert np.isnan(found.npv)
        assert found.missed == 0


def test_rule_out_without_ill_or_healthy_is_nan() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    for y in (np.array([0, 0]), np.array([1, 1])):
        assert np.isnan(rule_out(y, p).referral_rate)
        assert np.isnan(rule_out_at(y, p, 0.5).referral_rate)
        assert np.isnan(referral_rate_over(y, p, np.ones((1, 2)))).all()
    assert rule_out(np.array([0, 1]), p).referral_rate == 0.5
    assert rule_out(np.array([0, 1]), p, healthy=1).referral_rate == 0.5
    assert rule_out(np.array([1, 0]), p, healthy=1).referral_rate == 1


def test_nobody_can_be_cleared_where_the_surest_is_ill() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]])
    found = rule_out(np.array([1, 0, 0]), p)
    assert found.referral_rate == 1
    assert np.isnan(found.threshold)
