from __future__ import annotations

import numpy as np
import pytest
from metrics_cohorts import cohort

from shared_model.metrics.classification import sensitivities, specificities
from shared_model.metrics.subgroups import age_bands, equalised_odds, fair_gaps, subgroups


def test_age_bands_have_their_edges_in_the_middle_one() -> None:
    ages = [69.99, 70, 75, 80, 80.01, np.nan]
    assert age_bands(ages) == ["<70", "70-80", "70-80", "70-80", ">80", None]
    assert age_bands([50, 61], edges=(55, 60)) == ["<55", ">60"]


def test_a_group_is_shown_only_with_enough_of_every_class() -> None:
    y = np.r_[np.repeat([0, 1, 2], 20), np.repeat([0, 1, 2], [40, 30, 19])]
    sex = ["F"] * 60 + ["M"] * 89
    found = {g.value: g for g in subgroups(y, 3, {"sex": sex})}
    assert found["F"].per_class == (20, 20, 20)
    assert found["F"].shown
    assert found["M"].per_class == (40, 30, 19)
    assert not found["M"].shown
    assert all(g.shown for g in subgroups(y, 3, {"sex": sex}, minimum=19))
    assert (found["F"].patients == (np.array(sex) == "F")).all()


def test_a_class_that_a_group_lacks_hides_it() -> None:
    (group,) = subgroups(np.repeat([0, 1], 30), 3, {"sex": ["F"] * 60})
    assert group.per_class == (30, 30, 0)
    assert not group.shown


def test_missing_values_are_no_group() -> None:
    y = np.zeros(4, dtype=np.int64)
    found = subgroups(y, 1, {"tesla": [1.5, None, float("nan"), 3.0]}, minimum=1)
    assert [g.value for g in found] == ["1.5", "3.0"]
    assert subgroups(y, 1, {"vendor": ["", None, "", None]}) == ()
    with pytest.raises(ValueError, match="3 values for 4 patients"):
        subgroups(y, 1, {"sex": ["F", "M", "F"]})


def test_nothing_follows_as_the_total_minus_the_others() -> None:
    y = np.zeros(100, dtype=np.int64)
    vendor = ["a"] * 50 + ["b"] * 30 + ["c"] * 20
    plain = subgroups(y, 1, {"v": vendor}, minimum=25)
    assert [g.shown for g in plain] == [True, True, False]
    safe = subgroups(y, 1, {"v": vendor}, minimum=25, complementary=True)
    assert [g.shown for g in safe] == [True, False, False]
    two_hidden = subgroups(y, 1, {"v": vendor}, minimum=40, complementary=True)
    assert [g.shown for g in two_hidden] == [True, False, False]
    unknown = ["a"] * 50 + ["b"] * 45 + [None] * 5
    left = subgroups(y, 1, {"v": unknown}, minimum=25, complementary=True)
    assert [g.shown for g in left] == [True, False]


def test_equalised_odds_is_the_largest_gap_between_groups() -> None:
    y, p = cohort(0, n=120)
    masks = [np.arange(120) % 3 == k for k in range(3)]
    found = equalised_odds(y, p, masks)
    hit = np.array([sensitivities(y[m], p[m]) for m in masks])
    false = 1 - np.array([specificities(y[m], p[m]) for m in masks])
    assert found.sensitivity_gaps == pytest.approx(hit.max(0) - hit.min(0))
    assert found.false_positive_gaps == pytest.approx(false.max(0) - false.min(0))
    assert found.gap == max(found.sensitivity_gaps.max(), found.false_positive_gaps.max())


def test_equalised_odds_by_hand_and_where_it_is_undetermined() -> None:
    y = np.array([0, 1, 0, 1])
    p = np.eye(2)[[0, 1, 0, 0]]  # group two misses its only patient of class 1
    first, second = np.array([1, 1, 0, 0], bool), np.array([0, 0, 1, 1], bool)
    found = equalised_odds(y, p, [first, second])
    assert found.sensitivity_gaps.tolist() == [0, 1]
    assert found.false_positive_gaps.tolist() == [1, 0]
    assert np.isnan(equalised_odds(y, p, [first]).gap)
    lacking = equalised_odds(np.array([0, 1, 0, 0]), p, [first, second])
    assert np.isnan(lacking.sensitivity_gaps[1])
    assert np.isnan(lacking.gap)


def test_fair_gaps_are_those_of_groups_by_lot() -> None:
    y, p = cohort(1, n=200)
    group = np.random.default_rng(0).integers(0, 3, 200)
    masks = [group == k for k in range(3)]
    drawn = fair_gaps(y, p, masks, draws=400, seed=1)
    by_hand = []
    rng = np.random.default_rng(5)
    for _ in range(400):
        shuffled = group.copy()
        for c in range(3):
            shuffled[y == c] = rng.permutation(group[y == c])
        by_hand.append(equalised_odds(y, p, [shuffled == k for k in range(3)]).gap)
    quantiles = [0.1, 0.5, 0.9]
    assert np.quantile(drawn, quantiles) == pytest.approx(np.quantile(by_hand, quantiles), abs=0.02)
    assert np.median(drawn) > 0.05  # a fair model has a gap


def test_fair_gaps_find_unfairness_and_keep_their_level() -> None:
    reached = []
    for seed in range(40):
        y, p = cohort(seed, n=90)
        masks = [np.arange(90) % 2 == k for k in range(2)]
        gap = equalised_odds(y, p, masks).gap
        reached.append((1 + (fair_gaps(y, p, masks, draws=99) >= gap - 1e-12).sum()) / 100)
    assert np.mean(np.array(reached) <= 0.05) <= 0.2
    assert np.mean(reached) > 0.35
    y, p = cohort(0, n=120, signal=6.0)
    unfair = np.arange(120) < 60
    p[unfair] = np.roll(p[unfair], 1, axis=1)
    gap = equalised_odds(y, p, [unfair, ~unfair]).gap
    assert (fair_gaps(y, p, [unfair, ~unfair], draws=99) < gap).all()


def test_fair_gaps_need_disjoint_groups_and_two_of_them() -> None:
    y, p = cohort(0, n=20)
    everyone = np.ones(20, dtype=bool)
    assert np.isnan(fair_gaps(y, p, [everyone], draws=3)).all()
    with pytest.raises(ValueError, match="overlap"):
        fair_gaps(y, p, [everyone, everyone])
