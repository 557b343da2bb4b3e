"""A registered model as a researcher looks at it: size, inputs, options, the plan to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import tomli_w

from shared_model.atlas.select import load_atlas
from shared_model.inputs import input_fields
from shared_model.models.plan_sections import plan_sections
from shared_model.plan import FederationPlan
from shared_model.plan_model import build_plan_model
from shared_model.registry import model_entry

_ONE_SITE = {"sites": [{"name": "any", "declared_patients": 1}]}


@dataclass(frozen=True)
class Described:
    """One row of ``smrfed-sim models``.

    ``parameters`` of the model on the default grid and atlas; ``federated`` of them with the groups
    that a plan starts from.
    """

    name: str
    task: str
    inputs: tuple[str, ...]
    parameters: int
    federated: int
    about: str
    source: str

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def plan_to_look_at(
    name: str, options: Mapping[str, Any] | None = None, **sections: Mapping[str, Any]
) -> FederationPlan:
    """A plan of one hospital without privacy, to build the model from; SMR-E601, SMR-E102."""
    data = plan_sections(name, options)
    for section, changed in sections.items():
        data[section] = data.get(section, {}) | dict(changed)
    data |= {"name": "a look", "privacy": {"mode": "none"}, "federation": _ONE_SITE}
    return FederationPlan.parse(data)


def describe(name: str, options: Mapping[str, Any] | None = None) -> Described:
    """Build a model and count; takes seconds. Raises SMR-E602 for options that it does not have."""
    entry = model_entry(name)
    # Weights are not read to count, and a model may want random ones to be asked for.
    seeded = {"seeded": True} if "seeded" in entry.config.model_fields else {}
    plan = plan_to_look_at(name, dict(options or {}) | seeded)
    model = build_plan_model(plan, load_atlas(plan.atlas, plan.input.grid))
    sizes = {key: value.numel() for key, value in model.named_parameters()}
    return Described(
        name,
        entry.task,
        input_fields(entry.batch),
        sum(sizes.values()),
        sum(sizes[key] for key in plan.groups.split(sizes)["shared"]),
        entry.about,
        entry.source,
    )


def fragment(name: str, options: Mapping[str, Any] | None = None) -> str:
    """The model's sections of a plan, TOML."""
    sections = plan_sections(name, options)
    if not sections["model"]["config"]:
        del sections["model"]["config"]
    order = ("task", "model", "groups", "input", "adaptation")
    named = {key: sections[key] for key in order if key in sections}
    return tomli_w.dumps(named | sections)


def option_rows(name: str) -> list[tuple[str, str, str, str]]:
    """Name, values, default and description of every option but ``classes`` and ``site_norm``."""
    rows = []
    schema = model_entry(name).config.model_json_schema()
    for key, found in schema["properties"].items():
        if key in ("classes", "site_norm"):
            continue  # the plan's task and adaptation say them
        default = found.get("default")
        shown = "none" if default is None else str(default)
        rows.append((key, _values(found, schema), shown, found.get("description", "")))
    return rows


def _values(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The values that a field of a JSON schema may have, in words."""
    if "$ref" in field:
        return _values(schema["$defs"][field["$ref"].rsplit("/", 1)[1]], schema)
    if "anyOf" in field:
        return " or ".join(_values(part, schema) for part in field["anyOf"])
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    words = {"integer": "whole number", "number": "number", "boolean": "true, false"}
    kind = words.get(field.get("type", ""), field.get("type", "any"))
    signs = {
        "minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most",
        "exclusiveMaximum": "below", "multipleOf": "multiple of",
    }  # fmt: skip
    limits = [f"{word} {field[key]:g}" for key, word in signs.items() if key in field]
    return ", ".join([kind if kind != "null" else "none", *limits])
