"""Options of the ResNets."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared_model.layers.site_norm import SiteNorm

Blocks = tuple[int, int, int, int]
PlaneName = Literal["sagittal", "coronal", "axial"]


class SlicesConfig(BaseModel):
    """How a volume becomes pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    planes: tuple[PlaneName, ...] = Field(
        default=("sagittal", "coronal", "axial"), min_length=1, description="each once"
    )
    slices: int = Field(default=4, ge=1, le=32, description="key slices of each plane")
    channels: Literal["same", "neighbours"] = Field(
        default="neighbours",
        description="three channels from one slice, or from it and its two neighbours (2.5D)",
    )
    image_size: int = Field(
        default=224, ge=32, le=512, description="pixels of a picture's side; weights learnt at 224"
    )
    pool: Literal["attention", "mean"] = Field(
        default="attention", description="of the slices: Linear(F, 1) and softmax, or their mean"
    )

    @model_validator(mode="after")
    def _slices_differ(self) -> Self:
        if len(set(self.planes)) != len(self.planes):
            raise ValueError(f"planes repeat: {self.planes}")
        if self.pool == "attention" and self.slices * len(self.planes) == 1:
            raise ValueError("one slice needs no attention: its weight would have no gradient")
        return self


class BackboneConfig(BaseModel):
    """What the 2D and the 3D network share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: int = Field(default=3, ge=2, description="number of logits")
    site_norm: SiteNorm = Field(
        default="residual", description="layer A: of the embedding, and of norm 'group'"
    )
    width: int = Field(default=64, ge=2, description="channels of the first convolution")
    blocks: Blocks = Field(default=(3, 4, 6, 3), description="bottlenecks of the four stages")
    trained_stages: int = Field(
        default=0,
        ge=0,
        le=4,
        description="last stages that may train; what lies below is computed once a scan. The "
        "plan's groups must say the same",
    )
    norm: Literal["affine", "group"] = Field(
        default="affine",
        description="of trained stages: the pretrained one as constants, or group normalisation",
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="before the last layer")
    seeded: bool = Field(
        default=False,
        description="start from random weights, without a file: frozen, they learn nothing",
    )


class ResNet50Config(BackboneConfig, SlicesConfig):
    """Options of ``resnet50``."""


class ResNet503DConfig(BackboneConfig):
    """Options of ``resnet50-3d``."""
