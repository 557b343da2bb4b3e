"""Models by name: one way to build them, with their default parameter groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid
from shared_model.groups import ParameterGroups
from shared_model.layers.site_norm import (
    SiteNorm,
    fixed_parameter_patterns,
    site_parameter_patterns,
)
from shared_model.smrnet.config import PublishedConfig, SMRNetConfig
from shared_model.smrnet.model import SMRNet
from shared_model.smrnet.output import SMRNetOutput
from shared_model.smrnet.published import INERT, SMRNetPublished
from shared_model.smrnet.tokens import Tokens

EncoderUse = Literal["frozen", "shared"]
Builder = Callable[[Any, Tensor, Tensor], nn.Module]
Grouping = Callable[[SiteNorm, EncoderUse], ParameterGroups]


class Output(Protocol):
    """What every registered model returns: logits ``(B, C)`` and its own explanations."""

    @property
    def logits(self) -> Tensor:
        """Unnormalised class scores ``(B, C)``."""


@runtime_checkable
class TokenModel(Protocol):
    """A model whose expensive half can be computed once per scan and cached.

    It may say ``parameters_per_scan = True`` when :meth:`reason` also takes parameters with scans
    as a leading dimension; see :class:`shared_model.smrnet.model.SMRNet`.
    """

    def tokenise(self, x: Tensor) -> Tokens:
        """Tokens of ``(B, 1, D, H, W)``."""

    def reason(self, tokens: Tokens) -> SMRNetOutput:
        """Prediction from tokens."""


@dataclass(frozen=True)
class ModelEntry:
    """A registered model: its options, its builder and its parameter groups."""

    config: type[BaseModel]
    build: Builder
    groups: Grouping


_MODELS: dict[str, ModelEntry] = {}


def register_model(name: str, entry: ModelEntry) -> None:
    """Add a model; ``entry.config`` has a field ``classes`` and, for layer A, ``site_norm``.

    Raises SMR-E601 when the name is taken.
    """
    if name in _MODELS:
        raise SmrfedError(
            "SMR-E601",
            f"a model named {name!r} is already registered",
            found=sorted(_MODELS),
            remedy="choose another name",
        )
    _MODELS[name] = entry


def model_names() -> tuple[str, ...]:
    """Names that a plan may use."""
    return tuple(sorted(_MODELS))


def build_model(
    name: str,
    config: Mapping[str, Any],
    grid: ModelGrid,
    labels: Tensor,
    adjacency: Tensor,
    num_classes: int,
    seed: int,
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

    Raises SMR-E601 (unknown name), SMR-E602 (an option is unknown or out of range), SMR-E603 (atlas
    and grid do not fit) and SMR-E605 (the module holds tracked state).
    """
    entry = _entry(name)
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
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it would reseed every GPU as well.
        torch.default_generator.manual_seed(seed)
        model = entry.build(parsed, labels, adjacency)
    refuse_tracked_state(name, model)
    return model


def default_groups(
    name: str, site_norm: SiteNorm = "residual", encoder: EncoderUse = "frozen"
) -> ParameterGroups:
    """The parameter groups that a plan starts from.

    ``encoder="frozen"`` keeps a publicly pretrained encoder as it is, so that tokens can be cached;
    ``"shared"`` trains it privately as well. Raises SMR-E601 for an unknown name.
    """
    return _entry(name).groups(site_norm, encoder)


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


def _entry(name: str) -> ModelEntry:
    if name not in _MODELS:
        raise SmrfedError(
            "SMR-E601",
            f"no model is registered as {name!r}",
            expected=model_names(),
            found=name,
            remedy="use one of the registered names, or register the model first",
        )
    return _MODELS[name]


def _smrnet_groups(site_norm: SiteNorm, encoder: EncoderUse) -> ParameterGroups:
    # A frozen encoder keeps its residuals at zero: cached tokens do not depend on the site.
    scope = "reasoner.*" if encoder == "frozen" else "*"
    public = ("encoder.*", "standardiser.*") if encoder == "frozen" else ("standardiser.*",)
    return ParameterGroups(
        frozen=public + fixed_parameter_patterns(site_norm, scope),
        shared=(scope,),
        site=site_parameter_patterns(site_norm, scope),
    )


def _published_groups(site_norm: SiteNorm, encoder: EncoderUse) -> ParameterGroups:
    if encoder == "frozen":  # all norms are in the two branches
        return ParameterGroups(frozen=("low.*", "high.*", *INERT))
    return ParameterGroups(
        frozen=(*INERT, *fixed_parameter_patterns(site_norm)),
        site=site_parameter_patterns(site_norm),
    )


register_model("smrnet", ModelEntry(SMRNetConfig, SMRNet, _smrnet_groups))
register_model(
    "smrnet-published",
    ModelEntry(
        PublishedConfig,
        lambda config, labels, adjacency: SMRNetPublished(config),
        _published_groups,
    ),
)
