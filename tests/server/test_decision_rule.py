"""The prior-free rule: takes the lean of a model away, and does nothing where it knows nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from noised_patients import Patients, draw, plan_with, released

from server.evaluation.decision_rule import prior_free_offsets, require_head, with_offsets
from shared_model.errors import SmrfedError
from shared_model.metrics import balanced_accuracy, macro_auc
from shared_model.protocol.arrays import decode_arrays, encode_arrays
from shared_model.releases.statistics import PROBABILITIES, noise_multiplier, weight

SITES = ("a", "b", "c", "d")
# One calibration of this noise beside a training of epsilon 7.4 keeps a plan within epsilon 8.
NOISE = 4.0


def corrected(patients: Patients, offsets: tuple[float, ...]) -> Patients:
    y, p = patients
    z = np.log(p) + np.array(offsets)
    e = np.exp(z - z.max(1, keepdims=True))
    return y, e / e.sum(1, keepdims=True)


def federated_offsets(
    rng: np.random.Generator,
    lean: tuple[float, ...],
    per_site: int,
    noise: float,
    scale: float = 1.0,
) -> tuple[float, ...]:
    """What the coordinator makes of four sites' releases."""
    plan = plan_with(0.0, noise, *SITES)
    total = sum(
        released(rng, "calibrate", draw(rng, per_site, lean, 1.2, scale=scale), plan)[
            PROBABILITIES
        ].astype(np.float64)
        for _ in SITES
    ) / weight(PROBABILITIES, 3)
    sd = noise_multiplier(plan, "calibrate") * 2 / weight(PROBABILITIES, 3)
    return prior_free_offsets(total, sd).values


@pytest.mark.parametrize("lean", [(1.8, 0.0, 0.0), (0.0, 1.6, -0.2), (-0.5, 0.0, 1.8)])
def test_a_model_that_ranks_well_but_names_one_class_recovers_under_noise(
    lean: tuple[float, ...],
) -> None:
    rng = np.random.default_rng(0)
    test = draw(rng, 20_000, lean, 1.6, scale=0.4)
    assert balanced_accuracy(*test) < 0.37
    assert macro_auc(*test) > 0.8
    fair = balanced_accuracy(*corrected(test, tuple(-v for v in lean)))
    after = [
        balanced_accuracy(*corrected(test, federated_offsets(rng, lean, 120, NOISE, 0.4)))
        for _ in range(20)
    ]
    assert np.mean(after) > fair - 0.07
    assert min(after) > 0.33 + 0.6 * (fair - 0.33)


def test_a_lean_so_strong_that_noise_hides_the_other_classes_is_taken_away_in_part() -> None:
    rng, lean = np.random.default_rng(5), (4.5, 0.0, 0.0)
    test = draw(rng, 20_000, lean, 1.2)
    before = balanced_accuracy(*test)
    for _ in range(20):
        offsets = federated_offsets(rng, lean, 120, NOISE)
        assert offsets[0] < -1
        assert balanced_accuracy(*corrected(test, offsets)) > before + 0.05


@pytest.mark.parametrize("noise", [0.0, NOISE, 15.0])
def test_a_well_calibrated_model_is_hardly_moved(noise: float) -> None:
    rng = np.random.default_rng(1)
    fair = (0.0, 0.0, 0.0)
    test = draw(rng, 20_000, fair, 1.2)
    before = balanced_accuracy(*test)
    for _ in range(10):
        offsets = federated_offsets(rng, fair, 120, noise)
        assert max(map(abs, offsets)) < 0.4
        assert balanced_accuracy(*corrected(test, offsets)) > before - 0.015


def test_rare_classes_are_weighted_like_frequent_ones() -> None:
    """Offsets come from class-balanced means: the mix of the patients plays no part."""
    rng = np.random.default_rng(2)
    matrices = []
    for prevalence in ((0.8, 0.15, 0.05), (1 / 3, 1 / 3, 1 / 3)):
        y, p = draw(rng, 40_000, (1.5, 0.0, 0.0), 1.2, prevalence)
        matrices.append(np.array([p[y == k].sum(0) for k in range(3)]))
    one, two = (prior_free_offsets(matrix, 1.0).values for matrix in matrices)
    np.testing.assert_allclose(one, two, atol=0.05)


def test_a_matrix_of_noise_moves_nothing() -> None:
    rng = np.random.default_rng(3)
    for scale in (0.5, 3.0, 100.0):
        for _ in range(500):
            found = prior_free_offsets(rng.normal(0, scale, (3, 3)), scale)
            assert found.values == (0.0, 0.0, 0.0)
            assert found.mean_prediction is None
    assert prior_free_offsets(np.zeros((3, 3)), 0.0).values == (0.0, 0.0, 0.0)


def test_weak_statistics_never_make_a_fair_model_much_worse() -> None:
    """At the edge of what is visible the offsets are short, and on average they do not harm."""
    rng = np.random.default_rng(4)
    test = draw(rng, 5_000, (0.0, 0.0, 0.0), 1.2)
    before = balanced_accuracy(*test)
    after = [
        balanced_accuracy(*corrected(test, federated_offsets(rng, (0.0, 0.0, 0.0), n, 6.0)))
        for n in (30, 60, 100, 150)
        for _ in range(20)
    ]
    assert np.mean(after) > before - 0.01
    assert min(after) > before - 0.08


@given(
    rows=st.lists(st.lists(st.floats(-500, 500), min_size=3, max_size=3), min_size=3, max_size=3),
    sd=st.floats(0, 100),
)
def test_whatever_comes_in_the_offsets_are_finite_centred_and_bounded(
    rows: list[list[float]], sd: float
) -> None:
    found = prior_free_offsets(np.array(rows), sd)
    assert np.isfinite(found.values).all()
    assert sum(found.values) == pytest.approx(0, abs=1e-9)
    assert 0 <= found.shrinkage <= 1
    assert max(map(abs, found.values)) <= np.log(300)


def test_the_offsets_go_into_the_class_biases_and_nowhere_else() -> None:
    plan = plan_with()
    arrays = {
        "reasoner.head.bias": np.array([0.1, 0.2, 0.3], np.float32),
        "reasoner.head.weight": np.ones((3, 4), np.float32),
    }
    changed = decode_arrays(with_offsets(encode_arrays(arrays), (0.5, -0.25, -0.25), plan))
    np.testing.assert_allclose(changed["reasoner.head.bias"], [0.6, -0.05, 0.05], atol=1e-7)
    np.testing.assert_array_equal(changed["reasoner.head.weight"], arrays["reasoner.head.weight"])


@pytest.mark.parametrize(
    ("model", "arrays"),
    [
        ("smrnet", {"reasoner.head.weight": np.zeros((3, 4), np.float32)}),
        ("smrnet", {"reasoner.head.bias": np.zeros(2, np.float32)}),
        ("unheard-of", {"reasoner.head.bias": np.zeros(3, np.float32)}),
    ],
)
def test_a_model_without_shared_class_biases_is_refused(
    model: str, arrays: dict[str, np.ndarray]
) -> None:
    plan = plan_with(model={"name": model})
    with pytest.raises(SmrfedError, match="SMR-E570"):
        require_head(plan, arrays)
