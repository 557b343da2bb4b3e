from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shared_model.metrics.bootstrap import percentile_interval
from shared_model.metrics.tests import (
    corrected_t,
    holm,
    paired_bootstrap_p,
    paired_t,
    wilcoxon,
)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [2, 5, 8, 20, 50])
def test_wilcoxon_equals_scipys_exact_test(seed: int, n: int) -> None:
    d = np.random.default_rng(seed).normal(0.3, 1, n)
    expected = stats.wilcoxon(d, mode="exact")
    found = wilcoxon(d)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.n == n


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=9))
def test_wilcoxon_with_ties_counts_all_sign_patterns(d: list[int]) -> None:
    kept = np.array([x for x in d if x], dtype=float)
    found = wilcoxon(d)
    if len(kept) < 2:
        assert np.isnan(found.p_value)
        return
    ranks = stats.rankdata(np.abs(kept))
    seen = ranks[kept > 0].sum()
    centre = ranks.sum() / 2
    sums = [
        sum(r for r, up in zip(ranks, signs, strict=True) if up)
        for signs in itertools.product([False, True], repeat=len(kept))
    ]
    share = np.mean([abs(s - centre) >= abs(seen - centre) - 1e-9 for s in sums])
    assert found.p_value == pytest.approx(share)


def test_five_sites_cannot_reach_a_twentieth_and_six_can() -> None:
    assert wilcoxon([1, 2, 3, 4, 5]).p_value == pytest.approx(1 / 16)
    assert wilcoxon([1, 2, 3, 4, 5, 6]).p_value == pytest.approx(1 / 32)


@pytest.mark.parametrize("seed", range(5))
def test_t_equals_scipy_and_the_correction_its_formula(seed: int) -> None:
    d = np.random.default_rng(seed).normal(0.4, 1, 10)
    expected = stats.ttest_1samp(d, 0)
    assert paired_t(d).statistic == pytest.approx(expected.statistic)
    assert paired_t(d).p_value == pytest.approx(expected.pvalue)
    t = d.mean() / np.sqrt((1 / 10 + 1 / 9) * d.var(ddof=1))
    found = corrected_t(d, 1 / 9)
    assert found.statistic == pytest.approx(t)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(t), 9))
    assert found.p_value > paired_t(d).p_value


@pytest.mark.parametrize("d", [[], [0.3], [0.2, 0.2, 0.2], [0.0, 0.0], [np.nan, 0.4]])
def test_too_little_to_test_is_nan(d: list[float]) -> None:
    assert np.isnan(paired_t(d).p_value)
    assert np.isnan(corrected_t(d, 0.25).statistic)
    if len(set(d)) != 1 or d[0] == 0 or len(d) < 2:
        assert np.isnan(wilcoxon(d).p_value)


def test_t_and_wilcoxon_keep_their_level() -> None:
    rng = np.random.default_rng(0)
    found = np.array(
        [[f(d).p_value < 0.05 for f in (paired_t, wilcoxon)] for d in rng.normal(size=(600, 8))]
    )
    assert (found.mean(0) < 0.075).all()
    assert (found.mean(0) > 0.02).all()


def _closed_testing(p: list[float]) -> list[float]:
    """Holm by its definition: the worst Bonferroni p value of any set that holds the hypothesis."""
    m = len(p)
    return [
        max(
            min(1.0, len(s) * min(p[j] for j in s))
            for size in range(1, m + 1)
            for s in itertools.combinations(range(m), size)
            if i in s
        )
        for i in range(m)
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_closed_testing_with_bonferroni(p: list[float]) -> None:
    assert holm(p) == pytest.approx(_closed_testing(p))


def test_holm_leaves_the_undetermined_out() -> None:
    found = holm([0.01, np.nan, 0.04, 0.03])
    assert found[[0, 2, 3]] == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(found[1])
    assert holm([]).shape == (0,)
    assert np.isnan(holm([np.nan])).all()


@pytest.mark.parametrize("shift", [-3.0, -2.2, -1.7, -0.5, 0.0, 1.0, 1.7, 2.2, 3.0])
def test_bootstrap_p_agrees_with_the_interval(shift: float) -> None:
    draws = np.random.default_rng(0).normal(shift, 1, 4000)
    interval = percentile_interval(shift, draws)
    outside = interval.low > 0 or interval.high < 0
    assert (paired_bootstrap_p(draws) < 0.05) == outside
    assert paired_bootstrap_p(draws) == pytest.approx(2 * stats.norm.sf(abs(shift)), abs=0.03)


def test_bootstrap_p_is_never_nought_and_counts_the_undetermined_against() -> None:
    assert paired_bootstrap_p(np.ones(1999)) == pytest.approx(2 / 2000)
    assert paired_bootstrap_p(np.zeros(100)) == 1
    holes = np.r_[np.ones(90), np.full(10, np.nan)]
    assert paired_bootstrap_p(holes) == pytest.approx(2 * 11 / 101)
    assert np.isnan(paired_bootstrap_p([]))
    assert np.isnan(paired_bootstrap_p([np.nan, np.nan]))
