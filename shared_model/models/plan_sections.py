"""The sections of a plan that belong to a registered model, to begin a plan with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from shared_model.adaptation.section import AdaptationSection
from shared_model.layers.site_norm import SiteNorm
from shared_model.models.entry import EncoderUse
from shared_model.registry import default_groups, model_entry


def plan_sections(
    name: str,
    options: Mapping[str, Any] | None = None,
    site_norm: SiteNorm | None = None,
    encoder: EncoderUse = "frozen",
) -> dict[str, Any]:
    """``task``, ``model``, ``groups``, ``adaptation`` and what else suits the model, by section.

    ``options`` are the model's own. Layer A is as the plan has it by default, and off for a model
    that has none. Raises SMR-E601 for an unknown name.
    """
    entry = model_entry(name)
    sections: dict[str, Any] = {key: dict(value) for key, value in entry.plan.items()}
    asked = sections.get("adaptation", {}).get("site_norm", AdaptationSection().site_norm)
    norm = site_norm or cast(SiteNorm, asked if has_layer_a(name) else "off")
    adaptation = sections.setdefault("adaptation", {}) | {"site_norm": norm}
    if norm in ("off", "shared"):
        adaptation["personalise"] = "never"
    sections["adaptation"] = adaptation
    sections["task"] = sections.get("task", {}) | {"kind": entry.task}
    given = sections.get("model", {})
    sections["model"] = given | {
        "name": name,
        "config": dict(given.get("config", {})) | dict(options or {}),
    }
    sections["groups"] = default_groups(name, norm, encoder).model_dump(mode="json")
    return sections


def has_layer_a(name: str) -> bool:
    """Whether the model has site-adaptive normalisation; it then has an option of this name."""
    return "site_norm" in model_entry(name).config.model_fields
