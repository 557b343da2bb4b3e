"""Options of the vision transformer."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared_model.layers.site_norm import SiteNorm


class ViTConfig(BaseModel):
    """Options of ``vit-3d``; the defaults stay below 50,000 parameters on the 2 mm grid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: int = Field(default=3, ge=2, description="number of logits")
    site_norm: SiteNorm = Field(default="residual", description="layer A: of the layer norms")
    patch_mm: float = Field(
        default=16.0, ge=4, le=64, description="edge of a patch; rounded to voxels of the grid"
    )
    width: int = Field(default=32, ge=6, multiple_of=2, description="features of a patch")
    depth: int = Field(default=3, ge=1, le=24, description="transformer blocks")
    heads: int = Field(default=4, ge=1, description="attention heads; they divide the width")
    mlp: int = Field(default=64, ge=1, description="hidden units of a block's perceptron")
    attention_features: int = Field(default=8, ge=1, description="hidden width of the read-out")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="after attention and perceptron")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a width of {self.width}")
        return self
