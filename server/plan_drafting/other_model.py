"""The draft for another model than SMR-Net: its own sections over those of the usual draft."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

import tomli_w

from server.plan_drafting.initial import require_torch

_HEAD = """\
# What all parties agree on; every field: docs/plan.md, and of this model:
# `smrfed-sim models show {model}`. Once a hospital has accepted it, a change is another plan.
# `smrfed-coordinator plan show` prints the digest that everybody compares. The noise was computed
# for these rounds and local_steps: with others, write a new plan with `plan new`.
"""


def with_model(text: str, model: str) -> str:
    """The drafted plan in TOML with ``model`` in it, its groups, and what suits it better.

    Public weights of the encoder stay where the model has SMR-Net's. Asking the registry needs
    torch: raises SMR-E558 without it, and SMR-E601 for an unknown name.
    """
    require_torch("the registry of models is read with torch, which is not installed here")
    from shared_model.models.plan_sections import plan_sections
    from shared_model.registry import model_entry
    from shared_model.smrnet.config import SMRNetConfig

    plan: dict[str, Any] = tomllib.loads(text)
    drafted = plan.pop("model")
    plan.pop("groups")
    sections = plan_sections(model)
    rounds = plan["training"]["rounds"]
    if issubclass(model_entry(model).config, SMRNetConfig):
        sections["model"] = drafted | {
            "name": model,
            "config": drafted["config"] | sections["model"]["config"],
        }
    plan = _merged(plan, sections)
    plan["training"]["rounds"] = rounds
    if plan["task"]["kind"] != "classification":
        # Lesion masks are read on aligned scans only (SMR-E229).
        plan["input"]["preparation"]["source"] = "mni152"
    return _HEAD.format(model=model) + tomli_w.dumps(plan)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in changes.items():
        known = out.get(key)
        both = isinstance(value, Mapping) and isinstance(known, Mapping)
        out[key] = _merged(known, value) if both else value  # type: ignore[arg-type]
    return out
