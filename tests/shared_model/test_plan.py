"""The federation plan: digest, validation, and groups by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from shared_model.errors import SmrfedError
from shared_model.groups import ParameterGroups
from shared_model.plan import FederationPlan


def minimal(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": "test",
        "privacy": {"mode": "local", "noise_multiplier": 2.0},
        "federation": {"sites": [{"name": "a", "declared_patients": 30}]},
    }
    return data | changes


def test_the_digest_is_the_same_for_the_same_content_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(tomli_w.dumps(minimal()), encoding="utf-8")
    reordered = dict(reversed(list(minimal().items())))
    assert FederationPlan.load(path).digest == FederationPlan.parse(reordered).digest


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"name": "other"},
        {"privacy": {"mode": "local", "noise_multiplier": 2.1}},
        {"federation": {"sites": [{"name": "a", "declared_patients": 31}]}},
        {"input": {"grid": {"spacing_mm": 1.0}}},
    ],
)
def test_any_change_changes_the_digest(change: dict[str, Any]) -> None:
    changed = FederationPlan.parse(minimal(**change))
    assert changed.digest != FederationPlan.parse(minimal()).digest


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"privacy": {"mode": "local", "noise_multiplier": 0.0}}, "noise_multiplier"),
        ({"privacy": {"mode": "none", "noise_multiplier": 1.0}}, "noise_multiplier"),
        ({"unknown": 1}, "unknown"),
        ({"training": {"sampling_rate": 1.5}}, "sampling_rate"),
        ({"federation": {"sites": []}}, "sites"),
        (
            {
                "federation": {
                    "sites": [
                        {"name": "a", "declared_patients": 1},
                        {"name": "a", "declared_patients": 1},
                    ]
                }
            },
            "repeat",
        ),
        (
            {"federation": {"sites": [{"name": "a", "declared_patients": 1}], "min_sites": 2}},
            "min_sites",
        ),
    ],
)
def test_an_invalid_plan_names_the_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(SmrfedError, match=r"SMR-E102") as caught:
        FederationPlan.parse(minimal(**change))
    assert field in str(caught.value)


@pytest.mark.parametrize("content", [None, "name = ", "\x00"])
def test_an_unreadable_plan_names_the_file(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "plan.toml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(SmrfedError, match=r"SMR-E101[\s\S]*plan\.toml"):
        FederationPlan.load(path)


def test_a_site_that_the_plan_does_not_name_is_refused() -> None:
    plan = FederationPlan.parse(minimal())
    assert plan.site("a").declared_patients == 30
    with pytest.raises(SmrfedError, match="SMR-E104"):
        plan.site("b")


def test_weights_are_integers_from_the_plan_alone() -> None:
    sites = [{"name": "a", "declared_patients": 30}, {"name": "b", "declared_patients": 90}]
    equal = FederationPlan.parse(minimal(federation={"sites": sites}))
    by_size = FederationPlan.parse(
        minimal(federation={"sites": sites, "weighting": "declared_patients"})
    )
    assert equal.weights == {"a": 1, "b": 1}
    assert by_size.weights == {"a": 30, "b": 90}


def test_explicit_groups_take_a_name_out_of_the_shared_pattern() -> None:
    groups = ParameterGroups(frozen=("encoder.*",), shared=("*",), site=("*.site_shift",))
    split = groups.split(["encoder.w", "head.w", "norm.site_shift"])
    assert split == {
        "frozen": ("encoder.w",),
        "shared": ("head.w",),
        "site": ("norm.site_shift",),
    }


@pytest.mark.parametrize("name", ["encoder.norm.site_shift", "stem.weight"])
def test_a_name_in_no_group_or_in_two_is_an_error(name: str) -> None:
    groups = ParameterGroups(frozen=("encoder.*",), shared=("head.*",), site=("*.site_shift",))
    with pytest.raises(SmrfedError, match=r"SMR-E103"):
        groups.split([name])


@given(st.lists(st.from_regex(r"[a-c]\.[a-c]{1,3}", fullmatch=True), unique=True))
def test_every_name_lands_in_exactly_one_group(names: list[str]) -> None:
    split = ParameterGroups(frozen=("a.*",), shared=("*",), site=("b.*",)).split(names)
    assert sorted(name for members in split.values() for name in members) == sorted(names)
