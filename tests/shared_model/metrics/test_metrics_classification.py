from __future__ import annotations

import numpy as np
import pytest
from metrics_cohorts import cohort
from sklearn import metrics as reference

from shared_model.metrics.classification import (
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    f1s,
    macro_f1,
    mcc,
    npvs,
    ppvs,
    rates,
    sensitivities,
    specificities,
)
from shared_model.metrics.prevalence import adjusted_npv, adjusted_ppv, adjusted_rates


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_every_rate_equals_scikit_learn(seed: int, classes: int) -> None:
    y, p = cohort(seed, n=80, classes=classes)
    called = p.argmax(1)
    assert ppvs(y, p) == pytest.approx(reference.precision_score(y, called, average=None))
    assert sensitivities(y, p) == pytest.approx(reference.recall_score(y, called, average=None))
    assert f1s(y, p) == pytest.approx(reference.f1_score(y, called, average=None))
    assert macro_f1(y, p) == pytest.approx(reference.f1_score(y, called, average="macro"))
    assert mcc(y, p) == pytest.approx(reference.matthews_corrcoef(y, called))
    assert accuracy(y, p) == pytest.approx(reference.accuracy_score(y, called))
    assert balanced_accuracy(y, p) == pytest.approx(reference.balanced_accuracy_score(y, called))
    for c in range(classes):
        npv = reference.precision_score(y != c, called != c)
        assert npvs(y, p)[c] == pytest.approx(npv)
        assert specificities(y, p)[c] == pytest.approx(reference.recall_score(y != c, called != c))
    r = rates(confusion_matrix(y, p))
    assert float(r.accuracy) == pytest.approx(accuracy(y, p))
    assert float(r.balanced_accuracy) == pytest.approx(balanced_accuracy(y, p))


def test_a_class_that_nobody_is_called_has_no_ppv_but_an_f1_of_nought() -> None:
    m = np.array([[8, 2, 0], [1, 9, 0], [4, 6, 0]])
    r = rates(m)
    assert np.isnan(r.ppv[2])
    assert r.npv[2] == pytest.approx(20 / 30)
    assert r.f1[2] == 0
    assert r.sensitivity[2] == 0
    assert np.isfinite(float(r.mcc))


def test_a_class_that_nobody_has_is_nan_even_where_scikit_learn_says_nought() -> None:
    m = np.array([[8, 1, 1], [1, 8, 1], [0, 0, 0]])
    r = rates(m)
    assert np.isnan(r.sensitivity[2])
    assert np.isnan(r.f1[2])
    assert np.isnan(float(r.macro_f1))
    assert np.isnan(float(r.balanced_accuracy))
    assert r.ppv[2] == 0
    assert r.specificity[2] == pytest.approx(18 / 20)


def test_one_true_class_or_one_called_class_has_no_correlation() -> None:
    assert np.isnan(float(rates([[3, 4], [0, 0]]).mcc))
    assert np.isnan(float(rates([[3, 0], [5, 0]]).mcc))
    assert float(rates([[3, 0], [0, 5]]).mcc) == pytest.approx(1)
    assert float(rates([[0, 3], [5, 0]]).mcc) == pytest.approx(-1)


def test_nobody_at_all_is_nan_everywhere() -> None:
    r = rates(np.zeros((2, 3, 3)))
    for name in vars(r):
        assert np.isnan(getattr(r, name)).all(), name


def test_predictive_values_at_another_prevalence_are_bayes_rule() -> None:
    # A textbook case: sensitivity 0.99, specificity 0.95, one in a hundred ill.
    assert adjusted_ppv(0.99, 0.95, 0.01) == pytest.approx(0.0099 / (0.0099 + 0.0495))
    assert adjusted_npv(0.99, 0.95, 0.01) == pytest.approx(0.9405 / (0.9405 + 0.0001))
    assert np.isnan(adjusted_ppv(0.0, 1.0, 0.3))
    assert np.isnan(adjusted_npv(1.0, 0.0, 0.3))


def test_adjusted_rates_are_those_of_a_cohort_with_that_prevalence() -> None:
    m = np.array([[7, 2, 1], [2, 6, 2], [1, 1, 8]])  # ten patients of each class
    wanted = np.array([0.7, 0.2, 0.1])
    there = rates(m * np.array([7, 2, 1])[:, None])
    found = adjusted_rates(m, wanted)
    for name in vars(found):
        assert getattr(found, name) == pytest.approx(getattr(there, name)), name
    two = adjusted_rates([[80, 20], [10, 90]], [0.9, 0.1])
    assert two.ppv[1] == pytest.approx(adjusted_ppv(0.9, 0.8, 0.1))
    assert two.npv[1] == pytest.approx(adjusted_npv(0.9, 0.8, 0.1))


def test_a_class_without_patients_cannot_be_given_a_prevalence() -> None:
    m = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]])
    assert np.isnan(adjusted_rates(m, [0.5, 0.3, 0.2]).ppv).all()
    assert adjusted_rates(m, [0.5, 0.5, 0.0]).ppv[0] == pytest.approx(8 / 9)
    with pytest.raises(ValueError, match="sum to one"):
        adjusted_rates(m, [0.5, 0.3, 0.3])
