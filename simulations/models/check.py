"""Is a registered model safe to train privately: one patient at a time, nothing beside it?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from client.training.self_test import sensitivity_self_test
from client.training.self_test import synthetic_inputs as inputs_of
from client.training.self_test import synthetic_targets as targets_of
from client.training.site_model import SiteModel
from shared_model.atlas.select import load_atlas
from shared_model.errors import SmrfedError
from shared_model.registry import model_entry
from simulations.models.described import plan_to_look_at

_SPACING_MM = 4.0
# Float32 kernels of one scan and of several differ in the last bits; a coupled model by order 1.
_ALONE = 1e-3
# Where the largest gradient is 1, float32 rounds what should be zero to about 1e-8.
_SILENT = 1e-7
_SCANS = 3


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what, the figure, whether it is well."""

    what: str
    figure: str
    passed: bool


def check_model(name: str, options: Mapping[str, Any] | None = None) -> list[Check]:
    """Build the smallest model at 4 mm with the shipped atlas and look at each promise.

    ``options`` change its ``tiny`` ones. Raises what building it raises: SMR-E601 to E606, of which
    E605 is batch normalisation or a tracked buffer.
    """
    entry = model_entry(name)
    chosen = {**entry.tiny, **(options or {})}
    grid = {"grid": {"spacing_mm": _SPACING_MM}}
    looked = plan_to_look_at(name, chosen)
    plan = looked.model_copy(
        update={"input": looked.input.model_validate(looked.input.model_dump() | grid)}
    )
    model = SiteModel.build(plan, load_atlas(plan.atlas, plan.input.grid))
    count = {
        key: sum(p.numel() for p in model.parameters(names)) for key, names in model.groups.items()
    }
    return [
        Check("batch normalisation, tracked buffers", "none", True),  # else the registry raised
        Check(
            "every parameter in one group",
            ", ".join(f"{key} {value:,}" for key, value in count.items()),
            True,  # else building raised
        ),
        _alone(model),
        _silent(model),
        _sensitivity(model),
    ]


def require_safe(name: str, checks: list[Check]) -> None:
    """Raise SMR-E745 when one of them failed."""
    failed = [f"{check.what}: {check.figure}" for check in checks if not check.passed]
    if failed:
        raise SmrfedError(
            "SMR-E745",
            f"model {name!r} is not safe to train privately",
            expected="each scan for itself, and data in every federated parameter",
            found="; ".join(failed),
            remedy="docs/models.md says what each check means and how models usually pass it",
        )


def _alone(model: SiteModel) -> Check:
    """Outputs of scans one by one and together, in training."""
    model.model.train()
    for module in model.model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    inputs = inputs_of(model, _SCANS)
    with torch.no_grad():
        together = dict(_tensors(model.output(inputs)))
        alone = [dict(_tensors(model.output(inputs[i : i + 1]))) for i in range(_SCANS)]
    worst = 0.0
    for path, value in together.items():
        of_all = value.shape == alone[0][path].shape  # of the model, such as a shared mask
        rows = alone[0][path] if of_all else torch.cat([one[path] for one in alone])
        size = float(rows.abs().max()) if rows.numel() else 0.0
        if size:
            worst = max(worst, float((value - rows).abs().max()) / size)
    return Check("a scan alone and in a batch differ by", f"{worst:.1e} of it", worst <= _ALONE)


def _silent(model: SiteModel) -> Check:
    """Federated parameters whose gradient is zero whatever the scan."""
    shared = model.groups["shared"]
    before = model.shared_arrays()
    generator = torch.Generator().manual_seed(0)
    model.train_only(shared)
    parameters = model.parameters(shared)
    try:
        with torch.no_grad():
            for p in parameters:
                p.add_(0.05 * torch.randn(p.shape, generator=generator))
        inputs = inputs_of(model, _SCANS)
        loss = model.entry.losses(model.output(inputs), targets_of(model, _SCANS)).sum()
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
    finally:
        model.load_shared(before)
    largest = [0.0 if g is None else float(g.abs().max()) for g in found]
    limit = _SILENT * max(largest)
    silent = [n for n, value in zip(shared, largest, strict=True) if value <= limit]
    figure = f"{len(silent)} of {len(shared)}" + (f": {', '.join(silent[:4])}" if silent else "")
    return Check("federated parameters without a gradient", figure, not silent)


def _sensitivity(model: SiteModel) -> Check:
    """The test that every hospital runs before its first patient (SMR-E308)."""
    what = "one patient moves the clipped sum by at most"
    try:
        worst = sensitivity_self_test(model, inputs_of(model, _SCANS))
    except SmrfedError as error:
        if error.code != "SMR-E308":
            raise
        return Check(what, f"{error.found} ({error.code})", False)
    return Check(what, f"{worst:.6f} of the clip", True)


def _tensors(output: object, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors of a typed output with scans first, by path."""
    if isinstance(output, Tensor):
        yield path, output
    elif isinstance(output, dict):
        for key, value in output.items():
            yield from _tensors(value, f"{path}.{key}")
    elif isinstance(output, list | tuple):
        for number, value in enumerate(output):
            yield from _tensors(value, f"{path}.{number}")
    elif is_dataclass(output):
        for field in fields(output):
            yield from _tensors(getattr(output, field.name), f"{path}.{field.name}")
