"""Forward and backward passes in bfloat16, where the plan says so and the hardware has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from client.training.patient_loss import ModelOutput
from client.training.site_model import SiteModel
from shared_model.batch import Inputs

Forward = Callable[[Inputs], ModelOutput]


def has_bfloat16(device: torch.device) -> bool:
    """Whether convolutions on this device run in bfloat16 at its own speed."""
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and _cpu_has_bfloat16()  # type: ignore[no-untyped-call]


def in_precision(site_model: SiteModel, force: bool = False) -> Forward:
    """The model's output, float32, computed in the precision of its plan.

    Parameters and their gradients stay float32: autocast rounds copies of them, so that what is
    clipped, in float64, is what is summed, and the bound of a patient holds as in float32. Cached
    tokens are read in float32 always: their passes are too short to gain.

    Args:
        site_model: whose plan says ``training.precision``.
        force: in bfloat16 also where the hardware only emulates it; for tests.
    """
    wanted = site_model.plan.training.precision == "bfloat16" and not site_model.uses_tokens
    if not wanted or not (force or has_bfloat16(site_model.device)):
        return site_model.output

    def forward(inputs: Inputs) -> ModelOutput:
        with torch.autocast(site_model.device.type, dtype=torch.bfloat16, cache_enabled=False):
            output = site_model.output(inputs)
        return cast(ModelOutput, _in_float32(output))

    return forward


def _in_float32(value: Any) -> Any:
    """The same output with every tensor of it in float32, as losses read it."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {name: _in_float32(part) for name, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _in_float32(getattr(value, field.name)) for field in fields(value)}
        return replace(value, **parts)
    return value


def _cpu_has_bfloat16() -> bool:
    flags = torch.backends.cpu.get_cpu_capability()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and flags != "DEFAULT"
