"""Options of the late fusion."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from shared_model.layers.site_norm import SiteNorm
from shared_model.resnet.config import Blocks, SlicesConfig

BackboneName = Literal["vgg16", "resnet50"]


class MultimodalConfig(SlicesConfig):
    """Options of ``multimodal``. Which clinical data it sees is said in the plan's input."""

    classes: int = Field(default=3, ge=2, description="number of logits")
    site_norm: SiteNorm = Field(default="residual", description="layer A: of the joined embedding")
    backbones: tuple[BackboneName, ...] = Field(
        default=("vgg16", "resnet50"), description="image branches; none: clinical data alone"
    )
    vgg_width: int = Field(default=64, ge=2, description="channels of VGG16's first convolution")
    resnet_width: int = Field(default=64, ge=2, description="the same of ResNet50")
    blocks: Blocks = Field(default=(3, 4, 6, 3), description="bottlenecks of ResNet50's stages")
    clinical_features: int = Field(
        default=16, ge=1, le=256, description="h: hidden units of the clinical branch"
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="of the joined embedding")
    seeded: bool = Field(
        default=False,
        description="start from random weights, without a file: frozen, they learn nothing",
    )

    @model_validator(mode="after")
    def _backbones_differ(self) -> Self:
        if len(set(self.backbones)) != len(self.backbones):
            raise ValueError(f"backbones repeat: {self.backbones}")
        return self
