from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from shared_model import metrics
from shared_model.errors import SmrfedError


def _cohort(seed: int, n: int = 60, classes: int = 3, ties: bool = False):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    raw = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[y]
    if ties:
        raw = np.round(raw)
    p = np.exp(raw)
    return metrics.checked(y, p / p.sum(1, keepdims=True))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("ties", [False, True])
def test_metrics_equal_scikit_learn(seed: int, ties: bool) -> None:
    y, p = _cohort(seed, ties=ties)
    predicted = p.argmax(1)
    assert (metrics.confusion_matrix(y, p) == reference.confusion_matrix(y, predicted)).all()
    assert metrics.accuracy(y, p) == pytest.approx(reference.accuracy_score(y, predicted))
    assert metrics.balanced_accuracy(y, p) == pytest.approx(
        reference.balanced_accuracy_score(y, predicted)
    )
    assert metrics.sensitivities(y, p) == pytest.approx(
        reference.recall_score(y, predicted, average=None)
    )
    specificity = [reference.recall_score(y != c, predicted != c) for c in range(3)]
    assert metrics.specificities(y, p) == pytest.approx(specificity)
    assert metrics.macro_auc(y, p) == pytest.approx(
        reference.roc_auc_score(y, p, multi_class="ovr")
    )
    assert metrics.negative_log_likelihood(y, p) == pytest.approx(reference.log_loss(y, p))
    assert metrics.brier_score(y, p) == pytest.approx(
        sum(reference.brier_score_loss(y == c, p[:, c]) for c in range(3))
    )


def test_absent_class_is_nan_not_a_number() -> None:
    y = np.array([0, 0, 1, 1])
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1]])
    assert metrics.sensitivities(y, p)[:2].tolist() == [0.5, 1.0]
    assert math.isnan(metrics.sensitivities(y, p)[2])
    assert math.isnan(metrics.balanced_accuracy(y, p))
    assert math.isnan(metrics.macro_auc(y, p))
    assert metrics.specificities(y, p)[2] == 1.0
    draws = metrics.stratified_draws(y, 20, seed=0)
    interval = metrics.bootstrap(metrics.macro_auc_over, y, p, draws)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_a_single_class_has_no_auc_and_no_specificity() -> None:
    y = np.zeros(3, dtype=np.int64)
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]])
    assert np.isnan(metrics.aucs(y, p)).all()
    assert math.isnan(metrics.specificities(y, p)[0])
    assert metrics.specificities(y, p)[1] == pytest.approx(2 / 3)


def test_draws_keep_class_sizes_and_are_reproducible() -> None:
    y, _ = _cohort(3)
    draws = metrics.stratified_draws(y, 50, seed=4)
    assert (draws == metrics.stratified_draws(y, 50, seed=4)).all()
    assert (np.sort(y[draws], axis=1) == np.sort(y)).all()
    assert len({tuple(row) for row in draws}) == 50


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Two classes with a known AUC: Phi(1 / sqrt 2).
    truth, covered = 0.7602, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y = np.repeat([0, 1], 40)
        score = rng.normal(size=80) + y
        p1 = 1 / (1 + np.exp(-score))
        p = np.stack([1 - p1, p1], 1)
        draws = metrics.stratified_draws(y, 200, seed)
        interval = metrics.bootstrap(metrics.macro_auc_over, y, p, draws)
        covered += interval.low <= truth <= interval.high
    assert 51 <= covered <= 60


def test_paired_difference_is_narrower_than_the_two_intervals() -> None:
    y, p = _cohort(5, n=120)
    q = 0.9 * p + 0.1 * np.random.default_rng(0).dirichlet(np.ones(3), len(p))
    draws = metrics.stratified_draws(y, 300, seed=1)
    difference = metrics.paired_difference(metrics.macro_auc_over, y, p, q, draws)
    one = metrics.bootstrap(metrics.macro_auc_over, y, p, draws)
    assert difference.estimate == pytest.approx(metrics.macro_auc(y, p) - metrics.macro_auc(y, q))
    assert difference.high - difference.low < one.high - one.low
    same = metrics.paired_difference(metrics.macro_auc_over, y, p, p, draws)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(2, 4), st.booleans())
def test_all_draws_at_once_are_the_figures_draw_by_draw(
    seed: int, n: int, classes: int, tied: bool
) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)  # a class may have nobody
    p = rng.dirichlet(np.ones(classes), n)
    if tied:
        p = p.round(1)
    draws = metrics.stratified_draws(y, 8, seed=seed)
    counts = metrics.counts_of(draws)
    assert counts.sum() == draws.size
    for one, over in (
        (metrics.balanced_accuracy, metrics.balanced_accuracy_over),
        (metrics.macro_auc, metrics.macro_auc_over),
    ):
        np.testing.assert_array_equal(over(y, p, counts), [one(y[i], p[i]) for i in draws])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_relabelling_the_classes_changes_nothing(seed: int, classes: int) -> None:
    y, p = _cohort(seed, n=25, classes=classes)
    order = np.random.default_rng(seed).permutation(classes)
    y2, p2 = np.argsort(order)[y], p[:, order]
    for name, metric in metrics.METRICS.items():
        assert metric(y2, p2) == pytest.approx(metric(y, p)), name


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_auc_of_reversed_scores_is_the_complement(seed: int) -> None:
    y, p = _cohort(seed, n=20, classes=2, ties=True)
    assert metrics.aucs(y, -p) == pytest.approx(1 - metrics.aucs(y, p))


@pytest.mark.parametrize(
    ("y", "p"),
    [
        ([0, 1], [[0.5, 0.5]]),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]]),
        ([0, -1], [[0.5, 0.5], [0.5, 0.5]]),
        ([0.0, 1.0], [[0.5, 0.5], [0.5, 0.5]]),
        ([0, 1], [[0.5, 0.6], [0.5, 0.5]]),
        ([0, 1], [[np.nan, 1.0], [0.5, 0.5]]),
        ([], np.zeros((0, 2))),
    ],
)
def test_unusable_input_is_refused(y, p) -> None:
    with pytest.raises(SmrfedError) as caught:
        metrics.checked(y, p)
    assert caught.value.code == "SMR-E607"
