"""Clinical variables: what a mode lets in, and how values become numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared_model.clinical.encoding import Value, encode_clinical, encoded_names
from shared_model.clinical.fit import fit_clinical
from shared_model.clinical.section import DEFAULT_VARIABLES, ClinicalSection, ClinicalVariable

AGE = ClinicalVariable(name="age", mean=75, sd=5, unit="years")
SITE = ClinicalVariable(name="hand", kind="category", categories=("Left", "right"))
SECTION = ClinicalSection(mode="without-cognition", variables=(AGE, SITE))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"age": 80.0, "hand": "left"}, [1, 0, 1, 0, 0, 0]),
        ({"age": None, "hand": "RIGHT "}, [0, 1, 0, 1, 0, 0]),
        ({"age": 70, "hand": "both"}, [-1, 0, 0, 0, 1, 0]),  # a word that the plan does not know
        ({}, [0, 1, 0, 0, 0, 1]),
    ],
)
def test_scaled_value_words_and_what_is_missing(
    values: dict[str, Value], expected: list[float]
) -> None:
    found = encode_clinical(SECTION, values)
    assert found.dtype == np.float32
    assert found.tolist() == expected
    assert len(encoded_names(SECTION)) == SECTION.width == len(expected)


def test_a_missing_value_is_not_the_mean() -> None:
    mean, missing = (encode_clinical(SECTION, {"age": value}) for value in (75.0, None))
    assert mean.tolist() != missing.tolist()


MEASURED = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))


@given(st.lists(MEASURED, min_size=3, max_size=30, unique=True))
def test_constants_are_fitted_to_the_training_rows_alone(numbers: list[float]) -> None:
    rows: list[dict[str, Value]] = [{"x": n, "w": "ab"[i % 2]} for i, n in enumerate(numbers)]
    words, scaled = fit_clinical(rows)
    assert words.categories == ("a", "b")
    section = ClinicalSection(mode="without-cognition", variables=(scaled,))
    train = np.array([encode_clinical(section, row)[0] for row in rows], np.float64)
    assert abs(train.mean()) < 1e-3
    assert train.std(ddof=1) == pytest.approx(1, rel=1e-3)
    # A test row is encoded with them; nothing of it enters them.
    far = encode_clinical(section, {"x": scaled.mean + 100 * scaled.sd})
    assert far[0] == pytest.approx(100, rel=1e-3)
    other = ClinicalSection(mode="without-cognition", variables=(words,))
    assert encode_clinical(other, {"w": "c"}).tolist() == [0, 0, 1, 0]


def test_a_variable_that_tells_nothing_is_not_fitted() -> None:
    with pytest.raises(ValueError, match="x has 1 different values"):
        fit_clinical([{"x": 1.0}, {"x": 1.0}, {"x": None}])


@pytest.mark.parametrize(
    "numbers",
    [[1e6, 1e6 - 1e-10, 1e6 - 3e-10], [0.1, 0.1 + 1e-16, 0.1 + 2e-16], [0.0, 5e-324, 1e-323]],
)
def test_a_variable_that_varies_by_its_rounding_is_not_fitted(numbers: list[float]) -> None:
    with pytest.raises(ValueError, match=r"x has an SD of .* rounding"):
        fit_clinical([{"x": n} for n in numbers])


@pytest.mark.parametrize("unknown", [math.nan, math.inf])
def test_a_variable_that_is_not_finite_is_not_fitted(unknown: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        fit_clinical([{"x": 1.0}, {"x": 2.0}, {"x": unknown}])


@pytest.mark.parametrize(
    "name", ["mmse", "mmse_total", "moca", "adas13", "baseline_mmse", "cognition_score"]
)
def test_a_cognitive_test_is_refused_without_cognition(name: str) -> None:
    variable = {"name": name}
    with pytest.raises(ValidationError, match="with-mmse"):
        ClinicalSection.model_validate({"mode": "without-cognition", "variables": [variable]})
    assert ClinicalSection.model_validate({"mode": "with-mmse", "variables": [variable]}).width == 2


@pytest.mark.parametrize("name", ["cdr", "cdrsb", "diagnosis", "dx_bl", "last_diagnosis", "group"])
@pytest.mark.parametrize("mode", ["without-cognition", "with-mmse"])
def test_the_label_is_refused_in_every_mode(name: str, mode: str) -> None:
    with pytest.raises(ValidationError, match="is the label"):
        ClinicalSection.model_validate({"mode": mode, "variables": [{"name": name}]})


@pytest.mark.parametrize("name", ["age", "sex", "education", "apoe4", "weight", "smoker", "bmi"])
def test_what_is_no_test_is_let_in(name: str) -> None:
    section = {"mode": "without-cognition", "variables": [{"name": name}]}
    assert ClinicalSection.model_validate(section).used[0].name == name


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"mode": "imaging-only", "variables": [{"name": "age"}]}, "no clinical variables"),
        ({"mode": "with-mmse", "variables": [{"name": "age"}]}, "without a cognitive test"),
        (
            {"mode": "without-cognition", "variables": [{"name": "age"}, {"name": "age"}]},
            "repeat",
        ),
        ({"mode": "without-cognition", "variables": [{"name": "a", "sd": 0}]}, "greater than 0"),
        (
            {"mode": "without-cognition", "variables": [{"name": "a", "kind": "category"}]},
            "different categories",
        ),
    ],
)
def test_contradictions_are_refused(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ClinicalSection.model_validate(section)


def test_the_default_sets() -> None:
    """Part of what a plan means that names none: they never change within format 1."""
    used = {
        mode: [v.name for v in ClinicalSection.model_validate({"mode": mode}).used]
        for mode in ("imaging-only", "without-cognition", "with-mmse")
    }
    assert used == {
        "imaging-only": [],
        "without-cognition": ["age", "sex", "education", "apoe4"],
        "with-mmse": ["age", "sex", "education", "apoe4", "mmse"],
    }
    constants = {v.name: (v.mean, v.sd, v.lowest, v.highest) for v in DEFAULT_VARIABLES}
    del constants["sex"]
    assert constants == {
        "age": (75.0, 7.0, 0.0, 120.0),
        "education": (15.5, 3.0, 0.0, 40.0),
        "apoe4": (0.6, 0.7, 0.0, 2.0),
        "mmse": (26.7, 2.7, 0.0, 30.0),
    }
    assert ClinicalSection(mode="with-mmse").width == 12
    assert ClinicalSection().width == 0
    assert encode_clinical(ClinicalSection(), {"age": 70.0}).shape == (0,)
