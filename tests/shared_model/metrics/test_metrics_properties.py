"""Laws that hold for every figure at once."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_cohorts import cohort

from shared_model.metrics.arrays import checked
from shared_model.metrics.bootstrap import draw_counts, percentile_interval
from shared_model.metrics.calibration import fitted_temperature, reliability_curve
from shared_model.metrics.delong import delong_intervals
from shared_model.metrics.figures import drawn_figures, figures
from shared_model.metrics.ranking import aucs, auprcs, specificities_at_sensitivity
from shared_model.metrics.selective import coverage_risk, rule_out

_SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=40, deadline=None)
@given(_SEEDS, st.booleans())
def test_the_order_of_patients_plays_no_part(seed: int, ties: bool) -> None:
    y, p = cohort(seed, n=30, ties=ties)
    order = np.random.default_rng(seed).permutation(30)
    before, after = figures(y, p, "abc"), figures(y[order], p[order], "abc")
    for name, value in before.items():
        assert after[name] == pytest.approx(value, rel=1e-6, abs=1e-9, nan_ok=True), name
    assert coverage_risk(y[order], p[order]).risk == pytest.approx(coverage_risk(y, p).risk)
    assert rule_out(y[order], p[order]).referral_rate == rule_out(y, p).referral_rate
    assert fitted_temperature(y[order], p[order]) == pytest.approx(fitted_temperature(y, p))


@settings(max_examples=40, deadline=None)
@given(_SEEDS, st.integers(2, 5))
def test_renaming_the_classes_renames_the_figures(seed: int, classes: int) -> None:
    y, p = cohort(seed, n=35, classes=classes)
    order = np.random.default_rng(seed).permutation(classes)
    names = [str(c) for c in range(classes)]
    before = figures(y, p, names)
    after = figures(np.argsort(order)[y], p[:, order], [names[c] for c in order])
    # Which class is the healthy one is part of the meaning of the referral rate.
    for name in before.keys() - {"referral_rate_at_95_npv"}:
        assert after[name] == pytest.approx(before[name], rel=1e-6, abs=1e-9, nan_ok=True), name


@settings(max_examples=40, deadline=None)
@given(_SEEDS, st.booleans(), st.sampled_from([np.exp, np.cbrt, lambda x: 7 * x - 3]))
def test_rising_transforms_of_a_score_leave_its_ranking_figures(seed, ties, transform) -> None:
    y, p = cohort(seed, n=30, ties=ties)
    p = p.round(9)  # equal is equal, whatever the last bit says
    for metric in (aucs, auprcs, specificities_at_sensitivity):
        assert metric(y, transform(p)) == pytest.approx(metric(y, p))


@settings(max_examples=40, deadline=None)
@given(_SEEDS, st.integers(2, 4))
def test_every_patient_twice_changes_no_figure(seed: int, times: int) -> None:
    y, p = cohort(seed, n=25)
    once, more = figures(y, p, "abc"), figures(np.tile(y, times), np.tile(p, (times, 1)), "abc")
    # The area under the coverage-risk curve has a term of order 1 / N.
    for name in once.keys() - {"aurc"}:
        assert more[name] == pytest.approx(once[name], rel=1e-6, abs=1e-9, nan_ok=True), name


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(range(5))), min_size=1, max_size=6),
    _SEEDS,
)
def test_degenerate_cohorts_give_nan_and_no_exception(rows, seed: int) -> None:
    """A handful of patients, classes missing, certain and tied probabilities."""
    kinds = np.array(
        [[1.0, 0, 0], [0, 1.0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0], [0.2, 0.3, 0.5]]
    )
    y, p = checked([label for label, _ in rows], kinds[[kind for _, kind in rows]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = figures(y, p, "abc")
        counts = draw_counts(y, draws=8, seed=seed)
        draws = drawn_figures(y, p, counts, "abc")
        drawn = {n: percentile_interval(v, draws[n]) for n, v in found.items()}
        delong_intervals(y, p)
        reliability_curve(y, p)
        coverage_risk(y, p)
        rule_out(y, p)
        fitted_temperature(y, p)
    called = p.argmax(1)
    for c, name in enumerate("abc"):
        absent, alone = not (y == c).any(), bool((y == c).all())
        for figure in ("sensitivity", "f1", "classwise_ece"):
            assert np.isnan(found[f"{figure}[{name}]"]) == absent, figure
        for figure in ("auc", "auprc", "specificity_at_90_sensitivity"):
            assert np.isnan(found[f"{figure}[{name}]"]) == (absent or alone), figure
        assert np.isnan(found[f"specificity[{name}]"]) == alone
        assert np.isnan(found[f"ppv[{name}]"]) == (not (called == c).any())
        assert np.isnan(found[f"npv[{name}]"]) == bool((called == c).all())
    missing = len(set(y.tolist())) < 3
    for figure in ("balanced_accuracy", "macro_f1", "macro_auc", "macro_auprc", "macro_ece"):
        assert np.isnan(found[figure]) == missing
    for figure in ("accuracy", "negative_log_likelihood", "brier_score", "ece", "aurc"):
        assert np.isfinite(found[figure])
    for name, interval in drawn.items():
        assert np.isnan(interval.low) == np.isnan(interval.high), name
        if np.isnan(found[name]):
            assert np.isnan(interval.low), name


@settings(max_examples=40, deadline=None)
@given(_SEEDS)
def test_figures_stay_in_their_range(seed: int) -> None:
    y, p = cohort(seed, n=20, ties=True)
    for name, value in figures(y, p, "abc").items():
        if name in ("calibration_slope", "calibration_intercept", "negative_log_likelihood"):
            continue
        low = -1 if name == "mcc" else 0
        high = 2 if name == "brier_score" else 1
        assert np.isnan(value) or low - 1e-9 <= value <= high + 1e-9, name


def test_the_figures_need_numpy_alone() -> None:
    """A coordinator has no scipy."""
    code = (
        "import sys, shared_model.metrics.figures, shared_model.metrics.conversion, "
        "shared_model.metrics.subgroups, shared_model.metrics.phantom, "
        "shared_model.metrics.prevalence; print('scipy' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
