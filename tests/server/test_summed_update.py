"""The coordinator's step from an opened sum: units, central noise, void rounds, optimisers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from summed_plans import summed_plan

from server.aggregation.next_state import next_state
from server.aggregation.summed import SummedUpdate, add_modulo
from server.checkpoints.state import RunState
from shared_model.protocol.arrays import encode_arrays

THETA = {"w": np.array([[1.0, -2.0]], np.float32), "v": np.array([0.5], np.float32)}
GRADIENT = {"w": np.array([[3.0, 5.0]]), "v": np.array([-7.0])}


def integers(scale: float = 2.0**40) -> dict[str, Any]:
    return {name: np.rint(value * scale).astype(np.int64) for name, value in GRADIENT.items()}


def test_the_update_is_the_mean_over_the_declared_patients_of_the_survivors() -> None:
    training = {"learning_rate": 0.5, "sampling_rate": 0.25, "weight_decay": 0.01}
    plan = summed_plan(training=training)
    update = SummedUpdate(plan, integers(), {"a", "b", "d"}, THETA)
    assert update.weight == 60
    for name, value in update.centre().items():
        expected = -0.5 * (GRADIENT[name] / (0.25 * 60) + 0.01 * THETA[name].astype(float))
        np.testing.assert_allclose(value, expected, rtol=1e-12)
    stepped = update.step(THETA, 2.0)
    assert stepped["w"].dtype == np.float32
    np.testing.assert_array_equal(
        stepped["v"], (THETA["v"] + 2 * update.centre()["v"]).astype(np.float32)
    )


def test_layered_rates_and_hospitals_have_their_own_units() -> None:
    factors = [{"pattern": "v", "factor": 0.1}]
    plan = summed_plan(
        privacy={"unit": "hospital"}, training={"learning_rate": 1.0, "rate_factors": factors}
    )
    centre = SummedUpdate(plan, integers(), ["a", "b", "c", "d"], THETA).centre()
    np.testing.assert_allclose(centre["w"], -GRADIENT["w"] / 4)
    np.testing.assert_allclose(centre["v"], -0.1 * GRADIENT["v"] / 4)


def test_central_noise_is_fresh_and_what_the_accountant_counts_on() -> None:
    plan = summed_plan("central", training={"learning_rate": 1.0}, privacy={"clipping_norm": 0.5})
    theta = {"w": np.zeros((100, 200), np.float32)}
    total = {"w": np.zeros((100, 200), np.int64)}
    first, second = (SummedUpdate(plan, total, "abc", theta).centre()["w"] for _ in range(2))
    assert not total["w"].any()
    # Of 20,000 pairs a few may meet in float32.
    assert (first != second).mean() > 0.99
    noise = first.reshape(-1) * 60 / (2.0 * 0.5)
    # Fresh noise: one false alarm in a million.
    assert 5e-7 < stats.chi2(noise.size).cdf(float(np.square(noise).sum())) < 1 - 5e-7
    assert stats.kstest(noise, "norm").pvalue > 1e-6
    quiet = SummedUpdate(summed_plan(), total, "abc", theta).centre()["w"]
    assert not quiet.any()  # mode distributed: the sites' shares are in the sum


def test_void_rounds_and_strange_sums_compute_nothing() -> None:
    plan = summed_plan()
    with pytest.raises(ValueError, match="void"):
        SummedUpdate(plan, integers(), ["a", "b", "b"], THETA)
    with pytest.raises(ValueError, match="does not fit"):
        SummedUpdate(plan, {"w": integers()["w"]}, "abc", THETA)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "yogi"])
def test_the_next_state_takes_it_like_any_update(optimizer: str) -> None:
    plan = summed_plan(
        aggregation={"server_optimizer": optimizer},
        training={"server_learning_rate": 0.01, "ema_decay": 0.5},
    )
    state = RunState(round=0, body=encode_arrays(THETA), history=())
    update = SummedUpdate(plan, integers(), "abcd", THETA)
    new, memory = next_state(plan, state, update)
    again, _ = next_state(plan, state, SummedUpdate(plan, integers(), "abcd", THETA))
    for name, value in new.items():
        assert np.all(value != THETA[name])
        np.testing.assert_array_equal(value, again[name])
    assert memory.keys() >= {"average"} or memory


def test_sums_add_up_modulo_two_to_the_64() -> None:
    one, two = {"x": np.array([2**62, -5])}, {"x": np.array([2**62, 7])}
    assert add_modulo(one, two)["x"].tolist() == [-(2**63), 2]
