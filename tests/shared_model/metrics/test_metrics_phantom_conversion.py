from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from shared_model.metrics.conversion import conversion, conversion_over
from shared_model.metrics.phantom import phantom_distance, retest_distance


def test_phantom_distance_by_hand() -> None:
    # Two subjects 4 apart at either site; the site moves both by 3.
    z = np.array([[[0.0, 0.0], [3.0, 0.0]], [[0.0, 4.0], [3.0, 4.0]]])
    assert phantom_distance(z) == pytest.approx(3 / 4)
    assert phantom_distance(10 * z + 5) == pytest.approx(3 / 4)


def test_phantom_distance_equals_the_loops() -> None:
    z = np.random.default_rng(0).normal(size=(5, 3, 4))
    sites = [
        np.linalg.norm(z[v, a] - z[v, b]) for v in range(5) for a in range(3) for b in range(a)
    ]
    subjects = [
        np.linalg.norm(z[v, a] - z[w, a]) for a in range(3) for v in range(5) for w in range(v)
    ]
    assert phantom_distance(z) == pytest.approx(np.mean(sites) / np.mean(subjects))


def test_no_trace_is_nought_and_nothing_to_compare_is_nan() -> None:
    z = np.repeat(np.random.default_rng(0).normal(size=(4, 1, 3)), 2, axis=1)
    assert phantom_distance(z) == 0
    assert np.isnan(phantom_distance(z[:1]))
    assert np.isnan(phantom_distance(z[:, :1]))
    assert np.isnan(phantom_distance(np.ones((3, 2, 4))))
    with pytest.raises(ValueError, match="V, A, E"):
        phantom_distance(np.ones((3, 2)))


def test_retest_distance_by_hand() -> None:
    # Two subjects 4 apart; the second scans lie 1 and 2 away.
    z = np.array([[[0.0, 0.0]], [[0.0, 4.0]]])
    again = z + np.array([[[1.0, 0.0]], [[2.0, 0.0]]])
    assert retest_distance(z, again) == pytest.approx(1.5 / 4)
    assert retest_distance(z, z) == 0
    assert np.isnan(retest_distance(z[:1], again[:1]))
    with pytest.raises(ValueError, match="V, A, E"):
        retest_distance(z, again[:1])


def test_conversion_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    course = rng.uniform(size=80) < 0.4
    risk = np.clip(rng.normal(0.4, 0.2, 80) + 0.2 * course, 0, 1)
    found = conversion(course, risk, threshold=0.45)
    called = risk >= 0.45
    assert found.auc.estimate == pytest.approx(reference.roc_auc_score(course, risk))
    assert found.auc.low < found.auc.estimate < found.auc.high
    assert found.auprc == pytest.approx(reference.average_precision_score(course, risk))
    assert found.sensitivity == pytest.approx(reference.recall_score(course, called))
    assert found.specificity == pytest.approx(reference.recall_score(~course, ~called))
    assert found.ppv == pytest.approx(reference.precision_score(course, called))
    assert found.npv == pytest.approx(reference.precision_score(~course, ~called))
    fpr, tpr, _ = reference.roc_curve(course, risk, drop_intermediate=False)
    assert found.specificity_at_90 == pytest.approx((1 - fpr[tpr >= 0.9]).max())
    assert (found.progressive, found.stable) == (course.sum(), (~course).sum())


def test_conversion_with_one_course_or_nobody_is_nan() -> None:
    nobody = conversion([], [])
    assert np.isnan([nobody.auc.estimate, nobody.sensitivity, nobody.npv]).all()
    stable = conversion([False, False], [0.2, 0.7])
    assert np.isnan([stable.auc.estimate, stable.sensitivity, stable.auprc]).all()
    assert stable.specificity == 0.5
    with pytest.raises(ValueError, match="courses"):
        conversion([True], [0.1, 0.2])


def test_conversion_over_draws_is_that_of_the_repeated_patients() -> None:
    rng = np.random.default_rng(1)
    course, risk = rng.uniform(size=30) < 0.5, rng.uniform(size=30)
    counts = rng.multinomial(30, np.full(30, 1 / 30), 5).astype(float)
    over = conversion_over(course, risk, counts)
    for d, row in enumerate(counts):
        rows = np.repeat(np.arange(30), row.astype(int))
        alone = conversion(course[rows], risk[rows])
        assert over["auc"][d] == pytest.approx(alone.auc.estimate)
        for name in ("auprc", "sensitivity", "specificity", "ppv", "npv", "specificity_at_90"):
            assert over[name][d] == pytest.approx(getattr(alone, name)), name
