"""Models by name: one way to find and build them, with their default parameter groups."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid
from shared_model.groups import ParameterGroups
from shared_model.inputs import InputSizes
from shared_model.layers.site_norm import SiteNorm
from shared_model.models.entry import EncoderUse, ModelEntry, ModelFrame

#: Entry points of this group are models of other packages: a name, and a ModelEntry.
ENTRY_POINTS = "smrfed.models"

#: Where ``ENTRY`` of each model of this package is; read when it is asked for, because some need
#: libraries that take seconds to load.
_OWN = {
    "connex": "shared_model.models.connex",
    "multimodal": "shared_model.models.multimodal",
    "resnet50": "shared_model.models.resnet50",
    "resnet50-3d": "shared_model.models.resnet50_3d",
    "lesion-detector": "shared_model.models.lesion_detector",
    "smrnet": "shared_model.models.smrnet",
    "unet": "shared_model.models.unet",
    "unet-transformer": "shared_model.models.unet_transformer",
    "smrnet-published": "shared_model.models.smrnet_published",
    "smrnet-longitudinal": "shared_model.models.smrnet_longitudinal",
    "smrnet-volumes": "shared_model.models.smrnet_volumes",
    "vit-3d": "shared_model.models.vit_3d",
}
_REGISTERED: dict[str, ModelEntry] = {}


def register_model(name: str, entry: ModelEntry) -> None:
    """Add a model in this process; an entry point does it for good.

    Raises SMR-E601 when the name is taken.
    """
    if name in model_names():
        raise SmrfedError(
            "SMR-E601",
            f"a model named {name!r} is already registered",
            found=model_names(),
            remedy="choose another name",
        )
    _REGISTERED[name] = entry


def model_names() -> tuple[str, ...]:
    """Names that a plan may use."""
    others = {point.name for point in entry_points(group=ENTRY_POINTS)}
    return tuple(sorted({*_OWN, *_REGISTERED, *others}))


def model_entry(name: str) -> ModelEntry:
    """A model by name; its code is loaded now.

    Raises SMR-E601 for an unknown name, and for another package's entry point that cannot be
    loaded, is no :class:`ModelEntry`, or takes the name of a model of this package.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    points = [point for point in entry_points(group=ENTRY_POINTS) if point.name == name]
    if points and (name in _OWN or len(points) > 1):
        raise _not_one(name, f"{[point.value for point in points]}", "one model of this name")
    if name in _OWN:
        entry = import_module(_OWN[name]).ENTRY
    elif points:
        try:
            entry = points[0].load()
        except Exception as error:  # whatever another package raises when it is loaded
            raise _not_one(name, f"{points[0].value}: {error}", "a package that loads") from error
    else:
        raise SmrfedError(
            "SMR-E601",
            f"no model is registered as {name!r}",
            expected=model_names(),
            found=name,
            remedy="use one of the registered names, or register the model first",
        )
    if not isinstance(entry, ModelEntry):
        raise _not_one(name, type(entry).__name__, "a shared_model.models.entry.ModelEntry")
    return entry


def _not_one(name: str, found: str, expected: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E601",
        f"the entry point {name!r} of group {ENTRY_POINTS} gives no model",
        expected=expected,
        found=found,
        remedy="repair or uninstall the package that declares it; docs/models.md shows an example",
    )


def build_model(
    name: str,
    config: Mapping[str, Any],
    grid: ModelGrid,
    labels: Tensor,
    adjacency: Tensor,
    num_classes: int,
    seed: int,
    clinical: int = 0,
) -> nn.Module:
    """Build a registered model with seeded weights, leaving the global random state alone.

    Args:
        name: name in the registry.
        config: the model's own options; ``classes`` is taken from ``num_classes``.
        grid: model grid; below 2 mm the stem of SMR-Net steps by two unless told otherwise.
        labels: ``(D, H, W)`` atlas labels on the grid, 0 outside, 1..R inside.
        adjacency: ``(R, R)`` non-negative region graph.
        num_classes: number of logits.
        seed: public seed of the initial weights.
        clinical: numbers that the plan's clinical variables are encoded in.

    Raises SMR-E601 (unknown name), SMR-E602 (an option is unknown or out of range), SMR-E603 (atlas
    and grid do not fit) and SMR-E605 (the module holds tracked state).
    """
    entry = model_entry(name)
    options = {**config, "classes": num_classes}
    if "stem_stride" in entry.config.model_fields:
        options.setdefault("stem_stride", 2 if grid.spacing_mm < 2 else 1)
    try:
        parsed = entry.config.model_validate(options)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or name}: {item['msg']}" for item in error.errors()
        )
        raise SmrfedError(
            "SMR-E602",
            f"the options of model {name!r} are not valid",
            expected=sorted(entry.config.model_fields),
            found=problems,
            remedy="correct the [model.config] table of the plan",
        ) from None
    if tuple(labels.shape) != grid.shape:
        raise SmrfedError(
            "SMR-E603",
            "the atlas labels are not on the model grid",
            expected=grid.shape,
            found=tuple(labels.shape),
            remedy="resample the atlas to the grid of the plan",
        )
    frame = ModelFrame(InputSizes(grid, len(adjacency), clinical), labels, adjacency)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it would reseed every GPU as well.
        torch.default_generator.manual_seed(seed)
        model = entry.build(parsed, frame)
    refuse_tracked_state(name, model)
    return model


def default_groups(
    name: str, site_norm: SiteNorm = "residual", encoder: EncoderUse = "frozen"
) -> ParameterGroups:
    """The parameter groups that a plan starts from.

    ``encoder="frozen"`` keeps a publicly pretrained encoder as it is, so that tokens can be cached;
    ``"shared"`` trains it privately as well. Raises SMR-E601 for an unknown name.
    """
    return model_entry(name).groups(site_norm, encoder)


def refuse_tracked_state(name: str, model: nn.Module) -> None:
    """Raise SMR-E605 for batch normalisation or persistent buffers.

    Both couple patients or carry un-noised statistics of patients out with the state.
    """
    coupled = [
        n for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    ]
    tracked = sorted(set(model.state_dict()) - {n for n, _ in model.named_parameters()})
    if coupled or tracked:
        raise SmrfedError(
            "SMR-E605",
            f"model {name!r} keeps statistics of patients outside its parameters",
            expected="group normalisation, and constants as non-persistent buffers",
            found=f"batch norms {coupled}, tracked buffers {tracked}",
            remedy="replace BatchNorm by SiteAdaptiveGroupNorm; register constants with "
            "persistent=False",
        )


@torch.no_grad()
def load_public_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy public weights into a model by name.

    A site residual that the weights do not hold stays zero, and a whole part (``encoder``,
    ``standardiser``, ``reasoner``) may be missing; anything else that is unknown, missing or of
    another shape raises SMR-E606 and changes nothing.
    """
    parameters = dict(model.named_parameters())
    parts = {key.split(".")[0] for key in weights}
    needed = {
        key
        for key in parameters
        if key.split(".")[0] in parts and not key.endswith((".site_scale", ".site_shift"))
    }
    problems = [f"missing {key}" for key in sorted(needed - set(weights))]
    for key, value in weights.items():
        if key not in parameters:
            problems.append(f"unknown {key}")
        elif parameters[key].shape != value.shape:
            problems.append(f"{key} {tuple(value.shape)}, not {tuple(parameters[key].shape)}")
    if problems or not weights:
        raise SmrfedError(
            "SMR-E606",
            "the public weights do not fit the model",
            expected="every parameter of a part, by name and shape",
            found="; ".join(problems[:8]) or "no weights",
            remedy="use the weights that the plan names, with the same model options and atlas",
        )
    for key, value in weights.items():
        parameters[key].copy_(value)
