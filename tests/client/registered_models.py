"""Registered models at their smallest, with plans and inputs, for tests that go through them all.

A model that is added to the registry is in these tests from then on: nothing here names one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from small_site import GRID, small_atlas
from torch import Tensor, nn

from client.training.site_model import SiteModel
from shared_model.batch import Inputs
from shared_model.inputs import stand_ins
from shared_model.layers.site_norm import SiteNorm
from shared_model.models.entry import EncoderUse
from shared_model.models.plan_sections import has_layer_a, plan_sections
from shared_model.plan import FederationPlan
from shared_model.registry import model_entry

MODES: tuple[SiteNorm, ...] = ("off", "shared", "residual", "local")
_SHORT = {"rounds": 1, "local_steps": 1}
_PRIVATE = {"mode": "local", "noise_multiplier": 2.0, "epsilon": 8.0}


def modes_of(name: str) -> tuple[SiteNorm, ...]:
    """The modes of layer A that a model knows."""
    return MODES if has_layer_a(name) else ("off",)


def tiny_options(name: str) -> dict[str, Any]:
    """The options of the smallest model, without random draws in training."""
    entry = model_entry(name)
    still = {"dropout": 0.0} if "dropout" in entry.config.model_fields else {}
    return {**entry.tiny, **still}


def tiny_plan(
    name: str,
    site_norm: SiteNorm | None = None,
    encoder: EncoderUse = "frozen",
    seed: int = 0,
    **sections: dict[str, Any],
) -> FederationPlan:
    """A private plan of one round at 4 mm for the smallest model of this name."""
    of_model = plan_sections(name, tiny_options(name), site_norm, encoder)
    of_model["model"].pop("weights_sha256", None)
    for section, changed in sections.items():
        of_model[section] = of_model.get(section, {}) | changed
    given = {key: of_model.pop(key, {}) for key in ("input", "privacy", "training")}
    return FederationPlan.parse(
        {
            "name": "tiny",
            "seed": seed,
            "input": given["input"] | {"grid": {"spacing_mm": GRID.spacing_mm}},
            "privacy": given["privacy"] | _PRIVATE,
            "training": given["training"] | _SHORT,
            "federation": {"sites": [{"name": "a", "declared_patients": 9}]},
            **of_model,
        }
    )


def tiny_model(plan: FederationPlan, dtype: torch.dtype = torch.float32) -> SiteModel:
    """The model of a plan, moved from a start that would hide the gradient of its layers."""
    built = SiteModel.build(plan, small_atlas())
    generator = torch.Generator().manual_seed(1)
    built.model.to(dtype)
    with torch.no_grad():
        for parameter in built.model.parameters():
            step = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_((0.05 * step).to(dtype))
    return built


def tiny_inputs(model: SiteModel, count: int, seed: int = 0) -> Inputs:
    """Random inputs of ``count`` scans, in the model's precision."""
    generator = torch.Generator().manual_seed(seed)
    drawn = stand_ins(model.entry.batch, model.sizes, count, generator)
    return drawn.to(next(model.model.parameters()).dtype)


def tiny_targets(model: SiteModel, count: int) -> Tensor:
    """Classes in turn, or maps ``(count, D, H, W)`` with one lesion or two."""
    if model.entry.task == "classification":
        return torch.arange(count) % len(model.plan.task.labels)
    maps = torch.zeros(count, *GRID.shape, dtype=torch.int16)
    for scan in range(count):
        maps[scan, 8 + scan : 12 + scan, 10:14, 9:13] = 1
        maps[scan, 24:28, 20 : 24 + scan, 22:26] = 2
    return maps


def without_dropout(module: nn.Module) -> None:
    """Dropout draws anew in every call; all else stays as it is in training."""
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.eval()


def tensors_of(output: object, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors in a typed output, by their path."""
    if isinstance(output, Tensor):
        yield path, output
    elif isinstance(output, dict):
        for key, value in output.items():
            yield from tensors_of(value, f"{path}.{key}")
    elif isinstance(output, list | tuple):
        for number, value in enumerate(output):
            yield from tensors_of(value, f"{path}.{number}")
    elif is_dataclass(output):
        for field in fields(output):
            yield from tensors_of(getattr(output, field.name), f"{path}.{field.name}")
