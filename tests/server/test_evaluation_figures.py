"""Figures from noised counts: right without noise, and honest intervals with it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noised_patients import draw, plan_with, released

from server.evaluation.counts import NoisedCounts, check_statistics, pooled
from server.evaluation.figures import Figures, figures
from server.evaluation.intervals import Estimate, mean_of, not_rejected, worst_of, z_score
from shared_model.errors import SmrfedError
from shared_model.metrics import aucs, balanced_accuracy, sensitivities
from shared_model.protocol.arrays import encode_arrays
from shared_model.releases.statistics import CONFUSION, nodes, patient_vectors, split

LEAN = (0.7, 0.0, 0.0)
PICKED: dict[str, Callable[[Figures], Estimate]] = {
    "balanced accuracy": lambda f: f.balanced_accuracy,
    "macro AUC": lambda f: f.macro_auc,
    "sensitivity": lambda f: f.sensitivity[2],
    "AUC": lambda f: f.auc[1],
    "gap": lambda f: f.calibration_gap[0],
    "calibration error": lambda f: f.calibration_error,
    "patients": lambda f: f.patients,
}


def exact(patients: tuple[np.ndarray, np.ndarray]) -> Figures:
    plan = plan_with()
    rows = patient_vectors("evaluate", *patients, plan).sum(0)
    return figures(NoisedCounts.of(split("evaluate", rows, plan), plan))  # type: ignore[arg-type]


def test_without_noise_the_figures_are_the_metrics() -> None:
    y, p = draw(np.random.default_rng(0), 400, LEAN)
    found = exact((y, p))
    assert found.patients.value == pytest.approx(400)
    assert found.balanced_accuracy.value == pytest.approx(balanced_accuracy(y, p), abs=1e-6)
    for k, sensitivity in enumerate(sensitivities(y, p)):
        assert found.sensitivity[k].value == pytest.approx(sensitivity, abs=1e-6)
        gap = p[:, k].mean() - (y == k).mean()
        assert found.calibration_gap[k].value == pytest.approx(gap, abs=1e-6)
    # Between nodes an order is known in part only: the AUC is nearer to a half, by little.
    for estimate, auc in zip(found.auc, aucs(y, p), strict=True):
        assert estimate.value is not None
        assert auc - 0.05 < estimate.value <= auc + 0.005
    assert found.calibration_error.value == pytest.approx(
        max(abs(p[:, k].mean() - (y == k).mean()) for k in range(3)), abs=1e-6
    )


# What a federation of the size of docs/privacy.md's example can afford, and what it cannot.
CASES = [(0.0, 75, 1), (1.3, 75, 1), (1.3, 75, 4), (1.3, 300, 1), (6.0, 40, 1)]


@pytest.mark.parametrize(("noise", "patients", "sites"), CASES)
def test_the_intervals_hold_the_truth_about_as_often_as_they_say(
    noise: float, patients: int, sites: int
) -> None:
    truth = exact(draw(np.random.default_rng(1), 200_000, LEAN))
    plan, rng, draws = plan_with(noise), np.random.default_rng(2), 250
    hits = dict.fromkeys(PICKED, 0)
    widths = dict.fromkeys(PICKED, 0.0)
    for _ in range(draws):
        counts = [
            NoisedCounts.of(released(rng, "evaluate", draw(rng, patients, LEAN), plan), plan)
            for _ in range(sites)
        ]
        found = figures(pooled(counts))
        for name, pick in PICKED.items():
            value = patients * sites if name == "patients" else pick(truth).value
            assert value is not None
            rounding = 1e-3 if name == "patients" else 1e-6
            hits[name] += pick(found).low - rounding <= value <= pick(found).high + rounding
            widths[name] += (pick(found).high - pick(found).low) / draws
    for name, hit in hits.items():
        # 95 % less four standard errors of the simulation; wider than needed is allowed.
        assert hit / draws >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / draws), (name, hit / draws)
    assert widths["balanced accuracy"] < {0.0: 0.2, 1.3: 0.3, 6.0: 1.01}[noise]


def test_more_patients_and_less_noise_give_shorter_intervals() -> None:
    def width(noise: float, patients: int) -> float:
        rng, plan = np.random.default_rng(3), plan_with(noise)
        counts = NoisedCounts.of(released(rng, "evaluate", draw(rng, patients), plan), plan)
        found = figures(counts).balanced_accuracy
        return found.high - found.low

    assert width(1.0, 600) < width(1.0, 60) < width(5.0, 60)
    assert width(0.0, 60) < width(5.0, 60)


def test_where_noise_hides_the_patients_no_value_is_given() -> None:
    plan, rng = plan_with(50.0), np.random.default_rng(4)
    found = figures(NoisedCounts.of(released(rng, "evaluate", draw(rng, 20), plan), plan))
    assert found.macro_auc.value is None
    assert found.balanced_accuracy.value is None
    assert (found.macro_auc.low, found.macro_auc.high) == (0.0, 1.0)


def test_the_noise_of_a_sum_over_sites_is_the_sum_of_their_noises() -> None:
    plan, rng = plan_with(2.0), np.random.default_rng(5)
    counts = NoisedCounts.of(released(rng, "evaluate", draw(rng, 50), plan), plan)
    four = pooled([counts] * 4)
    np.testing.assert_allclose(four.confusion, 4 * counts.confusion)
    assert four.scores_sd == pytest.approx(2 * counts.scores_sd)
    with pytest.raises(ValueError, match="no site"):
        pooled([])


shares = st.floats(0, 1)


@given(value=shares, low=shares, high=shares, count=st.integers(1, 6))
def test_a_mean_is_at_least_as_certain_as_its_parts(
    value: float, low: float, high: float, count: int
) -> None:
    low, value, high = sorted((low, value, high))
    part = Estimate(value, low, high)
    mean = mean_of([part] * count)
    assert low - 1e-12 <= mean.low <= value + 1e-12
    assert value - 1e-12 <= mean.high <= high + 1e-12
    assert worst_of([part] * count) == part
    # What is not known does not average out.
    unknown = mean_of([Estimate(None, 0.0, 1.0)] * count)
    assert (unknown.low, unknown.high, unknown.value) == (0.0, 1.0, None)


@settings(max_examples=50)
@given(right=st.integers(0, 40), more=st.integers(0, 40))
def test_without_noise_the_interval_of_a_share_is_wilsons(right: int, more: int) -> None:
    total = right + more
    if not total:
        return
    found = not_rejected(
        right / total,
        lambda t: right - t * total,
        lambda t: total * t * (1 - t),
        z=z_score(),
    )
    z = z_score()
    centre = (right + z**2 / 2) / (total + z**2)
    half = z / (total + z**2) * math.sqrt(right * more / total + z**2 / 4)
    assert found.low == pytest.approx(max(0.0, centre - half), abs=2e-3)
    assert found.high == pytest.approx(min(1.0, centre + half), abs=2e-3)


def test_a_release_that_cannot_be_counts_is_refused() -> None:
    plan, rng = plan_with(1.0), np.random.default_rng(6)
    honest = released(rng, "evaluate", draw(rng, 60), plan)
    body = encode_arrays(honest)
    assert check_statistics(body, "evaluate", "a", plan)[CONFUSION].shape == (3, 3)
    for change, code in (
        (lambda a: a[CONFUSION].__setitem__((0, 0), 1e6), "SMR-E571"),
        (lambda a: a[CONFUSION].__setitem__((0, 0), np.nan), "SMR-E571"),
        (lambda a: a[CONFUSION].__setitem__((0, 0), np.inf), "SMR-E571"),
        (lambda a: a.pop(CONFUSION), "SMR-E515"),
        (lambda a: a.update({CONFUSION: np.zeros((2, 2), np.float32)}), "SMR-E516"),
        # Not even decoded: a site must not decide how much memory the coordinator takes.
        (lambda a: a.update(more=np.zeros(1 << 20, np.float32)), "SMR-E516"),
    ):
        arrays = {name: value.copy() for name, value in honest.items()}
        change(arrays)
        with pytest.raises(SmrfedError, match=code):
            check_statistics(encode_arrays(arrays), "evaluate", "a", plan)
    with pytest.raises(SmrfedError, match="SMR-E515"):
        check_statistics(body, "calibrate", "a", plan)


def test_the_nodes_hold_no_idea_in_the_middle() -> None:
    for classes in (2, 3, 5):
        assert nodes(classes)[2] == pytest.approx(1 / classes)
