from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_cohorts import cohort
from sklearn import metrics as reference

from shared_model.metrics.delong import (
    delong,
    delong_difference,
    delong_interval,
    delong_intervals,
)
from shared_model.metrics.ranking import (
    aucs,
    auprcs,
    macro_auc,
    macro_auprc,
    specificities_at_sensitivity,
)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [False, True])
def test_areas_equal_scikit_learn(seed: int, ties: bool) -> None:
    y, p = cohort(seed, n=70, ties=ties)
    for c in range(3):
        assert aucs(y, p)[c] == pytest.approx(reference.roc_auc_score(y == c, p[:, c]))
        assert auprcs(y, p)[c] == pytest.approx(reference.average_precision_score(y == c, p[:, c]))
    assert macro_auc(y, p) == pytest.approx(reference.roc_auc_score(y, p, multi_class="ovr"))
    assert macro_auprc(y, p) == pytest.approx(
        reference.average_precision_score(np.eye(3)[y], p, average="macro")
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("wanted", [0.5, 0.9, 1.0])
def test_fixed_sensitivity_equals_a_search_over_scikit_learns_curve(
    seed: int, ties: bool, wanted: float
) -> None:
    y, p = cohort(seed, n=50, ties=ties)
    for c in range(3):
        fpr, tpr, _ = reference.roc_curve(y == c, p[:, c], drop_intermediate=False)
        best = (1 - fpr[tpr >= wanted - 1e-12]).max()
        assert specificities_at_sensitivity(y, p, wanted)[c] == pytest.approx(best)


def test_classes_without_patients_have_no_area() -> None:
    y = np.array([0, 0, 1, 1])
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1]])
    for values in (aucs(y, p), auprcs(y, p), specificities_at_sensitivity(y, p)):
        assert np.isfinite(values[:2]).all()
        assert np.isnan(values[2])
    alone = np.zeros(3, dtype=np.int64)
    for metric in (aucs, auprcs, specificities_at_sensitivity):
        assert np.isnan(metric(alone, p[:3])).all()


def _slow_delong(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's structural components pair by pair, as in the paper of 1988."""
    areas, above, below = [], [], []
    for s in scores:
        kernel = np.array(
            [[1.0 if a > b else 0.5 if a == b else 0.0 for b in s[~positive]] for a in s[positive]]
        )
        areas.append(kernel.mean())
        above.append(kernel.mean(1))
        below.append(kernel.mean(0))

    def spread(v: list[np.ndarray]) -> np.ndarray:
        d = np.array([x - x.mean() for x in v])
        return d @ d.T / (d.shape[1] - 1)

    covariance = spread(above) / positive.sum() + spread(below) / (~positive).sum()
    return np.array(areas), covariance


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(2, 12), st.integers(2, 12))
def test_delong_equals_its_components_pair_by_pair(
    seed: int, ties: bool, positives: int, negatives: int
) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.permutation(np.repeat([True, False], [positives, negatives]))
    scores = rng.normal(size=(3, len(positive))) + positive
    scores = np.round(scores) if ties else scores
    areas, covariance = delong(positive, scores)
    slow_areas, slow_covariance = _slow_delong(positive, scores)
    assert areas == pytest.approx(slow_areas)
    assert covariance == pytest.approx(slow_covariance)
    for s, area in zip(scores, areas, strict=True):
        assert area == pytest.approx(reference.roc_auc_score(positive, s))


def test_delong_covers_the_truth_and_agrees_with_the_bootstrap() -> None:
    truth, covered = 0.7602, 0  # Phi(1 / sqrt 2)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        positive = np.repeat([True, False], 40)
        interval = delong_interval(positive, rng.normal(size=80) + positive)
        covered += interval.low <= truth <= interval.high
    assert 180 <= covered <= 199


def test_no_difference_is_found_as_often_as_the_level_says() -> None:
    found = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        positive = np.repeat([True, False], 30)
        shared = rng.normal(size=60) + positive
        a, b = shared + 0.5 * rng.normal(size=60), shared + 0.5 * rng.normal(size=60)
        result = delong_difference(positive, a, b)
        found += result.p_value < 0.05
        assert (result.p_value < 0.05) == (result.interval.low > 0 or result.interval.high < 0)
    assert 4 <= found <= 28


def test_delong_says_nothing_where_it_cannot() -> None:
    positive = np.array([True, True, False, False])
    perfect = delong_interval(positive, np.array([3.0, 4.0, 1.0, 2.0]))
    assert perfect.estimate == 1
    assert np.isnan([perfect.low, perfect.high]).all()
    single = delong_interval(np.array([True, False, False]), np.array([1.0, 2.0, 0.0]))
    assert single.estimate == 0.5
    assert np.isnan([single.low, single.high]).all()
    alone = delong_interval(np.array([True, True]), np.array([1.0, 2.0]))
    assert np.isnan([alone.estimate, alone.low, alone.high]).all()
    score = np.array([3.0, 1.0, 2.0, 0.0])
    same = delong_difference(positive, score, 10 * score)
    assert same.interval.estimate == 0
    assert np.isnan([same.interval.low, same.p_value]).all()


def test_intervals_by_class_are_those_of_each_class() -> None:
    y, p = cohort(1)
    for c, interval in enumerate(delong_intervals(y, p)):
        assert interval == delong_interval(y == c, p[:, c])
        assert interval.estimate == pytest.approx(aucs(y, p)[c])
