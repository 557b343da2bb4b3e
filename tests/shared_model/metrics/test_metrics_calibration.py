from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_cohorts import cohort
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from shared_model.metrics.calibration import (
    brier_score,
    calibration_line,
    calibration_lines,
    classwise_eces,
    confidence_line,
    ece,
    fitted_temperature,
    macro_ece,
    negative_log_likelihood,
    reliability_curve,
    with_temperature,
)


def _oracle(event: np.ndarray, probability: np.ndarray, bins: int) -> float:
    """Every patient ``bins`` times, so that equal bins are whole; ties share their mean."""
    residual = probability - event
    for value in np.unique(probability):
        tied = probability == value
        residual[tied] = residual[tied].mean()
    order = np.argsort(probability, kind="stable")
    parts = np.split(np.repeat(residual[order], bins), bins)
    return sum(abs(part.sum()) for part in parts) / (bins * len(event))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "bins"), [(60, 15), (47, 15), (10, 15), (200, 7)])
def test_calibration_error_equals_whole_bins_of_repeated_patients(
    seed: int, ties: bool, n: int, bins: int
) -> None:
    y, p = cohort(seed, n=n, ties=ties)
    right = (p.argmax(1) == y).astype(float)
    assert ece(y, p, bins) == pytest.approx(_oracle(right, p.max(1), bins))
    each = [_oracle((y == c).astype(float), p[:, c].copy(), bins) for c in range(3)]
    assert classwise_eces(y, p, bins) == pytest.approx(each)
    assert macro_ece(y, p, bins) == pytest.approx(np.mean(each))


def test_calibration_error_by_hand() -> None:
    # Two bins of two: |0.6 + 0.7 - 1| and |0.8 + 0.9 - 2|, over four patients.
    p1 = np.array([0.6, 0.7, 0.8, 0.9])
    p = np.stack([1 - p1, p1], 1)
    y = np.array([1, 0, 1, 1])
    assert ece(y, p, bins=2) == pytest.approx((0.3 + 0.3) / 4)
    # Equal mass, no fixed edges: all patients at one probability share all bins.
    same = np.full((4, 2), [0.25, 0.75])
    assert ece(np.array([1, 1, 1, 0]), same, bins=3) == pytest.approx(0)


def test_a_calibrated_model_has_a_small_error_and_a_sharpened_one_a_large() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 6000)
    y = np.array([rng.choice(3, p=row) for row in p])
    assert ece(y, p) < 0.02
    assert classwise_eces(y, p).max() < 0.03
    assert ece(y, with_temperature(p, 0.3)) > 0.1
    for line in (*calibration_lines(y, p), confidence_line(y, p)):
        assert line.slope == pytest.approx(1, abs=0.12)
        assert line.intercept == pytest.approx(0, abs=0.12)


@pytest.mark.parametrize("seed", range(4))
def test_line_equals_an_unpenalised_logistic_regression(seed: int) -> None:
    y, p = cohort(seed, n=120, signal=0.7)
    for c, line in enumerate(calibration_lines(y, p)):
        logit = np.log(p[:, c] / (1 - p[:, c]))[:, None]
        fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000).fit(logit, y == c)
        assert line.slope == pytest.approx(fit.coef_[0, 0], rel=1e-4)
        assert line.intercept == pytest.approx(fit.intercept_[0], rel=1e-4, abs=1e-4)
    right, top = p.argmax(1) == y, p.max(1)
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000)
    fit.fit(np.log(top / (1 - top))[:, None], right)
    assert confidence_line(y, p).slope == pytest.approx(fit.coef_[0, 0], rel=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 30))
def test_line_is_where_the_likelihood_has_no_slope_or_nowhere(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    event = rng.integers(0, 2, n).astype(float)
    probability = np.round(rng.uniform(0, 1, n), 1)  # ties, noughts and ones
    line = calibration_line(event, probability)
    low, high = probability[event == 1], probability[event == 0]
    separated = not len(low) or not len(high) or low.min() >= high.max() or high.min() >= low.max()
    assert np.isnan(line.slope) == np.isnan(line.intercept) == separated
    if not separated:
        q = np.clip(probability, np.finfo(float).eps, 1 - np.finfo(float).eps)
        x = np.log(q) - np.log1p(-q)
        residual = event - 1 / (1 + np.exp(-(line.intercept + line.slope * x)))
        assert residual.sum() == pytest.approx(0, abs=1e-6)
        assert residual @ x == pytest.approx(0, abs=1e-5)


def test_line_undoes_a_known_distortion() -> None:
    rng = np.random.default_rng(1)
    true = rng.uniform(0.02, 0.98, 20000)
    event = (rng.uniform(size=20000) < true).astype(float)
    logit = np.log(true / (1 - true))
    shown = 1 / (1 + np.exp(-(2 * logit + 1)))  # over-confident and too high
    line = calibration_line(event, shown)
    assert line.slope == pytest.approx(0.5, abs=0.02)
    assert line.intercept == pytest.approx(-0.5, abs=0.05)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sharpening", [0.4, 1.0, 2.5])
def test_temperature_equals_a_bounded_search(seed: int, sharpening: float) -> None:
    y, p = cohort(seed, n=90, signal=0.8)
    p = with_temperature(p, sharpening)
    found = fitted_temperature(y, p)

    def loss(log_t: float) -> float:
        return negative_log_likelihood(y, with_temperature(p, float(np.exp(log_t))))

    best = minimize_scalar(
        loss, bounds=(np.log(0.05), np.log(20)), method="bounded", options={"xatol": 1e-9}
    )
    assert found == pytest.approx(np.exp(best.x), rel=1e-4)
    assert loss(np.log(found)) <= best.fun + 1e-12
    assert (with_temperature(p, found).argmax(1) == p.argmax(1)).all()


def test_temperature_ends_at_its_bounds_and_not_beyond() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert fitted_temperature(np.array([0, 1]), p) == 0.05
    assert fitted_temperature(np.array([1, 0]), p) == 20.0
    assert np.isnan(fitted_temperature(np.array([0, 1]), np.full((2, 2), 0.5)))
    sure = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])  # a nought is not minus infinity
    assert 0.05 <= fitted_temperature(np.array([0, 1, 1]), sure) <= 20


def test_reliability_curve_is_what_the_error_sums() -> None:
    y, p = cohort(2, n=90)
    curve = reliability_curve(y, p)
    assert len(curve.predicted) == 15
    assert curve.patients == 6
    assert np.abs(curve.predicted - curve.observed).mean() == pytest.approx(ece(y, p))
    assert (np.diff(curve.predicted) >= 0).all()
    by_class = reliability_curve(y, p, positive=1, bins=9)
    assert np.abs(by_class.predicted - by_class.observed).mean() == pytest.approx(
        classwise_eces(y, p, 9)[1]
    )
    assert (curve.low <= curve.observed).all()
    assert (curve.observed <= curve.high).all()
    assert len(reliability_curve(y[:4], p[:4]).observed) == 4


def test_wilson_interval_of_a_bin_equals_the_textbook() -> None:
    # Eight of ten: 0.4901 to 0.9433 (Wilson 1927).
    p = np.full((10, 2), 0.5)
    p[:, 1], p[:, 0] = 0.6, 0.4
    y = np.array([1] * 8 + [0] * 2)
    curve = reliability_curve(y, p, positive=1, bins=1)
    assert curve.observed[0] == pytest.approx(0.8)
    assert (curve.low[0], curve.high[0]) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)


def test_scores_equal_scikit_learn_with_impossible_truths_too() -> None:
    y = np.array([0, 1, 1])
    p = np.array([[1.0, 0.0], [0.3, 0.7], [1.0, 0.0]])
    assert negative_log_likelihood(y, p) == pytest.approx(log_loss(y, p, labels=[0, 1]))
    assert brier_score(y, p) == pytest.approx((0 + 0.18 + 2) / 3)
