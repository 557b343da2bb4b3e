"""The one interface of a registered model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional

from shared_model.batch import Batch
from shared_model.groups import ParameterGroups
from shared_model.inputs import InputSizes
from shared_model.layers.site_norm import SiteNorm

#: Whether the part that is publicly pretrained stays as it is, or is trained privately as well.
EncoderUse = Literal["frozen", "shared"]
#: What is predicted; ``shared_model.plan.TaskSection`` names it for a federation.
TaskKind = Literal["classification", "segmentation", "detection"]


class Output(Protocol):
    """What every registered model returns: a frozen dataclass with its own explanations."""

    @property
    def logits(self) -> Tensor:
        """Unnormalised scores: ``(B, C)``, or ``(B, C, D, H, W)`` of a segmentation."""
        ...


@runtime_checkable
class TokenModel(Protocol):
    """A model whose expensive half can be computed once per scan and cached.

    It may say ``parameters_per_scan = True`` when :meth:`reason` also takes parameters with scans
    as a leading dimension; see :class:`shared_model.smrnet.model.SMRNet`.

    Attributes:
        tokens: type of what :meth:`tokenise` returns.
        above_tokens: prefixes of the parameters that only see tokens. Tokens can be cached where
            all others are frozen.
    """

    tokens: type[Batch]
    above_tokens: tuple[str, ...]

    def tokenise(self, x: Any) -> Any:
        """Tokens of the model's inputs."""
        ...

    def reason(self, tokens: Any) -> Output:
        """Prediction from tokens."""
        ...


@dataclass(frozen=True)
class ModelFrame:
    """What a plan fixes beside the model's own options.

    Attributes:
        sizes: grid, regions and clinical numbers.
        labels: ``(D, H, W)`` atlas labels on the grid, 0 outside, 1..R inside.
        adjacency: ``(R, R)`` non-negative region graph.
    """

    sizes: InputSizes
    labels: Tensor
    adjacency: Tensor


def class_losses(output: Any, labels: Tensor) -> Tensor:
    """``(B,)`` cross entropies of scans with labels ``(B,)``."""
    return functional.cross_entropy(output.logits, labels, reduction="none")


@dataclass(frozen=True)
class ModelEntry:
    """A registered model.

    Attributes:
        config: the model's options; has a field ``classes`` and, for layer A, ``site_norm``.
        build: from parsed options and the plan's frame.
        groups: parameter groups that a plan starts from.
        about: one sentence for lists.
        source: paper or code it follows.
        task: what it predicts. Targets are class indices ``(B,)`` for classification, and maps
            ``(B, D, H, W)`` of lesion numbers (0: none) for segmentation and detection.
        batch: type of its inputs; none: one volume ``(B, 1, D, H, W)``.
        losses: ``(B,)`` from output and targets; row i depends on scan i alone.
        plan: fields of a plan, by section, that suit the model better than the plan's defaults.
        tiny: options of the smallest sensible model, for checks and tests.
        presets: options of models of the literature, by their names there.
    """

    config: type[BaseModel]
    build: Callable[[Any, ModelFrame], nn.Module]
    groups: Callable[[SiteNorm, EncoderUse], ParameterGroups]
    about: str
    source: str = ""
    task: TaskKind = "classification"
    batch: type[Batch] | None = None
    losses: Callable[[Any, Tensor], Tensor] = class_losses
    plan: Mapping[str, Any] = field(default_factory=dict)
    tiny: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
