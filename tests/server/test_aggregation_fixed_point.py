from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from server.aggregation.fixed_point import (
    CHUNK,
    FRACTION_BITS,
    VALUE_LIMIT,
    WEIGHT_LIMIT,
    FixedPointSum,
    quantise,
)
from shared_model.errors import SmrfedError

SHAPES = {"a": (3,), "b": (2, 2)}
SCALE = 2**FRACTION_BITS
VALUES = st.floats(-VALUE_LIMIT, VALUE_LIMIT, width=32)


def arrays(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    return npst.arrays(np.float32, shape, elements=VALUES)


UPDATES = st.lists(
    st.tuples(
        st.fixed_dictionaries({n: arrays(s) for n, s in SHAPES.items()}), st.integers(1, 5000)
    ),
    min_size=1,
    max_size=6,
)


def total_of(updates: list[tuple[dict[str, np.ndarray], int]]) -> FixedPointSum:
    total = FixedPointSum(SHAPES, sum(weight for _, weight in updates))
    for update, weight in updates:
        total.add(update, weight)
    return total


def exact(value: np.float32) -> Fraction:
    """round_half_even(x * 2**32) / 2**32, in rationals."""
    return Fraction(round(Fraction(float(value)) * SCALE), SCALE)


@given(UPDATES, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_replies_does_not_change_a_bit(updates, random) -> None:
    theta = {n: np.full(s, 0.1, np.float32) for n, s in SHAPES.items()}
    first = total_of(updates).step(theta, 1.0)
    shuffled = list(updates)
    random.shuffle(shuffled)
    second = total_of(shuffled).step(theta, 1.0)
    for name in SHAPES:
        assert first[name].tobytes() == second[name].tobytes()


@given(UPDATES)
@settings(deadline=None)
def test_the_sum_equals_exact_rational_arithmetic(updates) -> None:
    total = total_of(updates)
    for name, shape in SHAPES.items():
        for index in np.ndindex(shape):
            expected = sum(w * exact(u[name][index]) for u, w in updates)
            assert Fraction(int(total.totals()[name][index]), SCALE) == expected


@given(UPDATES, st.floats(0.125, 2.0))
@settings(deadline=None)
def test_the_step_is_within_the_stated_rounding(updates, rate) -> None:
    theta = {n: np.full(s, -0.7, np.float32) for n, s in SHAPES.items()}
    new = total_of(updates).step(theta, rate)
    weight = sum(w for _, w in updates)
    for name, shape in SHAPES.items():
        for index in np.ndindex(shape):
            mean = sum(w * exact(u[name][index]) for u, w in updates) / weight
            update = Fraction(rate) * mean
            expected = Fraction(float(theta[name][index])) + update
            found = Fraction(float(new[name][index]))
            # float64: to float, quotient, product, sum; then one rounding to float32.
            wide = 4 * Fraction(1, 2**53) * (abs(update) + 1)
            narrow = abs(expected) / 2**24 + Fraction(1, 2**149)
            assert abs(found - expected) <= wide + narrow


@given(UPDATES, st.integers(2, 9))
@settings(deadline=None)
def test_the_sum_is_linear_in_the_weights(updates, factor) -> None:
    once = total_of(updates)
    often = total_of([(update, factor * weight) for update, weight in updates])
    for name in SHAPES:
        np.testing.assert_array_equal(often.totals()[name], factor * once.totals()[name])


@given(UPDATES, npst.arrays(np.int64, (3,), elements=st.integers(-(2**63), 2**63 - 1)))
@settings(deadline=None)
def test_masks_that_cancel_modulo_2_64_leave_the_sum_exact(updates, mask) -> None:
    plain = np.zeros(3, np.uint64)
    masked = np.zeros(3, np.uint64)
    for sign, (update, weight) in zip([1, -1], (updates * 2)[:2], strict=True):
        share = (quantise(update["a"]) * weight).view(np.uint64)
        plain += share
        masked += share + (mask.view(np.uint64) if sign == 1 else -mask.view(np.uint64))
    np.testing.assert_array_equal(plain.view(np.int64), masked.view(np.int64))


def test_the_extremes_of_the_declared_range_do_not_overflow() -> None:
    total = FixedPointSum({"a": (1,)}, WEIGHT_LIMIT)
    total.add({"a": np.array([VALUE_LIMIT], np.float32)}, WEIGHT_LIMIT)
    assert int(total.totals()["a"][0]) == 2**62
    assert total.step({"a": np.zeros(1, np.float32)}, 1.0)["a"][0] == VALUE_LIMIT


def test_arrays_longer_than_a_chunk_and_scalars_are_summed_whole() -> None:
    long = np.arange(2 * CHUNK + 5, dtype=np.float32) / 1024.0
    total = FixedPointSum({"long": long.shape, "scalar": ()}, 3)
    total.add({"long": long, "scalar": np.array(2.5, np.float32)}, 1)
    total.add({"long": -long, "scalar": np.array(1.0, np.float32)}, 2)
    theta = {"long": np.zeros_like(long), "scalar": np.zeros((), np.float32)}
    new = total.step(theta, 3.0)
    np.testing.assert_array_equal(new["long"], -long)
    assert new["scalar"] == np.float32(4.5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1024.001, -2e30])
def test_a_value_out_of_range_is_refused_and_nothing_is_added(value: float) -> None:
    total = FixedPointSum(SHAPES, 10)
    update = {"a": np.ones(3, np.float32), "b": np.full((2, 2), value, np.float32)}
    with pytest.raises(SmrfedError) as caught:
        total.add(update, 1)
    assert caught.value.code == "SMR-E510"
    assert total.weight == 0
    assert not total.totals()["a"].any()


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ({"a": (3,)}, "SMR-E515"),
        ({"a": (3,), "b": (2, 2), "c": (1,)}, "SMR-E515"),
        ({"a": (3,), "b": (4,)}, "SMR-E516"),
    ],
)
def test_other_names_or_shapes_are_refused(names: dict[str, tuple[int, ...]], code: str) -> None:
    with pytest.raises(SmrfedError) as caught:
        FixedPointSum(SHAPES, 1).add({n: np.ones(s, np.float32) for n, s in names.items()}, 1)
    assert caught.value.code == code


def test_weights_that_could_overflow_or_count_twice_are_refused() -> None:
    update = {"a": np.ones(3, np.float32)}
    with pytest.raises(SmrfedError, match="SMR-E511"):
        FixedPointSum({"a": (3,)}, WEIGHT_LIMIT + 1)
    total = FixedPointSum({"a": (3,)}, 5)
    total.add(update, 4)
    with pytest.raises(SmrfedError, match="SMR-E511"):
        total.add(update, 2)


def test_a_step_to_infinity_is_refused() -> None:
    total = FixedPointSum({"a": (1,)}, 1)
    total.add({"a": np.array([1000.0], np.float32)}, 1)
    with pytest.raises(SmrfedError, match="SMR-E521"):
        total.step({"a": np.array([3e38], np.float32)}, 1e36)
