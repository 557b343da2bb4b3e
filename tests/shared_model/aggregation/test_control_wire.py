"""The common control variate in a body: whole, or refused by number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.aggregation.control_wire import (
    CommonControl,
    control_shapes,
    require_control_norm,
    with_control,
    without_control,
)
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import decode_arrays, encode_arrays, largest_body

SHARED = {"w": np.ones((2, 3), np.float32), "x/control-variate/": np.zeros(1, np.float32)}
PLAN = FederationPlan.parse(
    {
        "name": "wire",
        "privacy": {"mode": "none"},
        "training": {"local_steps": 2},
        "aggregation": {"control_variates": True},
        "federation": {"sites": [{"name": n, "declared_patients": 9} for n in ("a", "b-c")]},
    }
)


@given(
    st.dictionaries(st.sampled_from(["a", "b-c"]), st.integers(1, 99_999)),
    st.floats(-1e6, 1e6, width=32),
)
def test_what_is_sent_comes_out_again(counted: dict[str, int], value: float) -> None:
    control = CommonControl({n: np.full_like(v, value) for n, v in SHARED.items()}, counted)
    body = encode_arrays(with_control(SHARED, control))
    assert encode_arrays(with_control(dict(reversed(SHARED.items())), control)) == body
    assert len(body) <= largest_body(
        {n: v.shape for n, v in SHARED.items()}
        | control_shapes(PLAN, {n: v.shape for n, v in SHARED.items()})
    )
    rest, found = without_control(decode_arrays(body), PLAN, 100_000)
    assert rest.keys() == SHARED.keys()
    assert found is not None
    assert found.counted == counted
    for name, array in control.values.items():
        np.testing.assert_array_equal(found.values[name], array)


def test_a_body_without_control_is_left_as_it_is() -> None:
    rest, control = without_control(SHARED, PLAN, 1)
    assert control is None
    assert rest == SHARED
    plain = PLAN.model_copy(update={"aggregation": type(PLAN.aggregation)()})
    assert control_shapes(plain, {"w": (2, 3)}) == {}
    with pytest.raises(SmrfedError, match="SMR-E345"):
        without_control(with_control(SHARED, CommonControl(SHARED, {})), plain, 2)


def test_counts_without_values_and_values_of_another_shape_are_refused() -> None:
    for control in (
        CommonControl({}, {"a": 1}),
        CommonControl({**SHARED, "w": np.ones((3, 2), np.float32)}, {"a": 1}),
        CommonControl(SHARED, {"a": 5}),
        CommonControl(SHARED, {"a": 0}),
    ):
        with pytest.raises(SmrfedError, match="SMR-E345"):
            without_control(with_control(SHARED, control), PLAN, 5)


def test_a_control_that_is_too_long_is_refused() -> None:
    control = CommonControl(SHARED, {})
    require_control_norm(control, 2.5)
    with pytest.raises(SmrfedError, match="SMR-E345"):
        require_control_norm(control, 2.4)
