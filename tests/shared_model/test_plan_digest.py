"""A plan's digest outlives new versions: defaults are left out of it, and never change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.smrnet.config import PublishedConfig, SMRNetConfig

PINNED = Path(__file__).with_name("plan_defaults_format_1.json")


def defaults(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every optional field by its dotted name, with its default as JSON."""
    out: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                out |= defaults(kind, f"{prefix}{name}.")
        section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        if not section and not field.is_required():
            value = field.get_default(call_default_factory=True)
            out[prefix + name] = json.loads(json.dumps(value))
    return out


def plan(**sections: Any) -> FederationPlan:
    return FederationPlan.parse(
        {
            "name": "small",
            "privacy": {"noise_multiplier": 2.0},
            "federation": {"sites": [{"name": "site-a", "declared_patients": 50}]},
            **sections,
        }
    )


def test_no_default_changes_within_a_format() -> None:
    """A changed default would mean something else under the same digest.

    A new field is added to the file; a default that must change needs a new ``format``.
    """
    found = (
        defaults(FederationPlan)
        | defaults(SMRNetConfig, "smrnet: ")
        | defaults(PublishedConfig, "smrnet-published: ")
    )
    assert found == json.loads(PINNED.read_text())


def test_the_digest_of_a_plan_is_that_of_the_first_version() -> None:
    assert plan().digest == "ee8c1a69e2e52c945bd7a26dbae0ba623b6082cc0c03a32d50d63ba6fb80350b"
    assert json.loads(plan().canonical_json).keys() == {"format", "name", "privacy", "federation"}


def test_saying_a_default_changes_nothing_and_any_other_value_does() -> None:
    assert plan(training={"rounds": 10}).digest == plan().digest
    assert plan(training={"rounds": 11}).digest != plan().digest


def test_the_canonical_form_reads_back_to_the_same_plan() -> None:
    original = plan(model={"config": {"width": 4}}, training={"rounds": 3})
    again = FederationPlan.parse(json.loads(original.canonical_json))
    assert again == original
    assert again.canonical_json == original.canonical_json


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    "where", [("privacy", "epsilon"), ("training", "learning_rate"), ("model", "config")]
)
def test_what_has_no_digest_is_refused(where: tuple[str, str], value: float) -> None:
    section, field = where
    said: dict[str, Any] = {"privacy": {"noise_multiplier": 2.0}}
    said[section] = {**said.get(section, {}), field: {"x": value} if field == "config" else value}
    with pytest.raises(SmrfedError, match="SMR-E102"):
        plan(**said)
