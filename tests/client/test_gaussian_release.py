"""The one mechanism for sums over patients: bounded rows, the accounted noise, a public grid."""

from __future__ import annotations

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_site import FixedRandom, small_plan

from client.privacy.gaussian_release import noise_grid, release_sum
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import plan_epsilon, planned_releases, release_use
from shared_model.privacy.secure_random import SecureRandom

ROWS = arrays(np.float64, (4, 6), elements=st.floats(allow_nan=True, allow_infinity=True, width=64))


@given(rows=ROWS, noise=st.floats(0.05, 50))
def test_a_patient_more_moves_the_sum_before_the_grid_by_at_most_one(
    rows: np.ndarray, noise: float
) -> None:
    same = [FixedRandom(scale=3.0), FixedRandom(scale=3.0)]
    whole = release_sum(rows, noise, same[0]).astype(np.float64)
    without = release_sum(rows[:-1], noise, same[1]).astype(np.float64)
    # The grid adds at most one of its steps per number.
    allowed = 1 + noise_grid(noise) * math.sqrt(rows.shape[1])
    assert np.linalg.norm(whole - without) <= allowed


@given(rows=ROWS)
def test_without_noise_the_bound_holds_to_the_bit(rows: np.ndarray) -> None:
    difference = release_sum(rows, 0, None) - release_sum(rows[:-1], 0, None)
    assert np.linalg.norm(difference.astype(np.float64)) <= 1 + 1e-6
    assert np.isfinite(release_sum(rows, 0, None)).all()


@pytest.mark.parametrize("noise", [0.3, 1.0, 7.5])
def test_the_noise_is_as_large_as_it_is_accounted(noise: float) -> None:
    numbers = 200_000
    drawn = release_sum(np.zeros((0, numbers)), noise, SecureRandom()).astype(np.float64)
    # Four standard errors; the grid's own variance is noise^2 / 12 million.
    assert abs(drawn.std() / noise - 1) < 4 / math.sqrt(2 * numbers)
    assert abs(drawn.mean()) < 4 * noise / math.sqrt(numbers)
    fourth = np.mean((drawn / noise) ** 4)
    assert abs(fourth - 3) < 4 * math.sqrt(96 / numbers)


def test_a_release_lies_on_a_grid_that_depends_on_the_noise_alone() -> None:
    for noise in (0.3, 1.0, 3.7, 100.0):
        grid = noise_grid(noise)
        assert 2**-11 < grid / noise <= 2**-10
        rows = np.random.default_rng(0).normal(size=(30, 500))
        steps = release_sum(rows, noise, SecureRandom()).astype(np.float64) / grid
        np.testing.assert_array_equal(steps, np.round(steps))


def test_no_stream_is_used_twice_and_no_seed_counts() -> None:
    np.random.seed(0)  # noqa: NPY002
    first = release_sum(np.zeros((0, 50)), 1.0, SecureRandom())
    np.random.seed(0)  # noqa: NPY002
    second = release_sum(np.zeros((0, 50)), 1.0, SecureRandom())
    assert (first != second).any()


@pytest.mark.parametrize("noise", [-1.0, math.nan])
def test_a_private_release_without_noise_is_no_release(noise: float) -> None:
    with pytest.raises(ValueError, match="needs noise"):
        release_sum(np.zeros((1, 3)), noise, SecureRandom())
    with pytest.raises(ValueError, match="needs noise"):
        release_sum(np.zeros((1, 3)), 1.0, None)


def releasing(rounds: int, every: int, evaluate: float, calibrate: float) -> FederationPlan:
    plan = small_plan(training={"rounds": rounds}, privacy={"noise_multiplier": 9.0}).model_dump()
    plan["evaluation"] |= {"release_every": every, "release_noise_multiplier": evaluate}
    plan["calibration"] = {"rule": "prior_free", "noise_multiplier": calibrate}
    return FederationPlan.parse(plan)


@pytest.mark.parametrize(
    ("rounds", "every", "evaluate", "calibrate", "evaluations"),
    [(10, 3, 2.0, 4.0, 4), (10, 5, 1.1, 2.0, 2), (4, 1, 3.0, 1.0, 4), (3, 8, 0.8, 6.0, 1)],
)
def test_the_plan_costs_what_an_accountant_of_its_own_says(
    rounds: int, every: int, evaluate: float, calibrate: float, evaluations: int
) -> None:
    plan = releasing(rounds, every, evaluate, calibrate)
    assert {r.purpose: r.count for r in planned_releases(plan)} == {
        "train": rounds,
        "calibrate": 1,
        "evaluate": evaluations,
    }
    assert release_use(plan, "evaluate").sampling_rate == 1
    train, test = pld.PLDAccountant(), pld.PLDAccountant()
    train.compose(dp_accounting.GaussianDpEvent(9.0), rounds)
    train.compose(dp_accounting.GaussianDpEvent(calibrate))
    test.compose(dp_accounting.GaussianDpEvent(evaluate), evaluations)
    expected = max(train.get_epsilon(1e-5), test.get_epsilon(1e-5))
    assert plan_epsilon(plan) == pytest.approx(expected, rel=2e-3)
