"""Options of the segmentation networks."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared_model.layers.site_norm import SiteNorm


class UNetConfig(BaseModel):
    """A U-Net over one volume; channels and strides as in monai.networks.nets.UNet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: Literal[2] = Field(default=2, description="background and lesion")
    channels: tuple[int, ...] = Field(
        default=(8, 12, 16, 24), min_length=2, description="per level, from the finest"
    )
    strides: tuple[int, ...] = Field(
        default=(2, 2, 2), min_length=1, description="between the levels; the first may be 1"
    )
    features: int = Field(
        default=8, ge=2, description="channels of the last layer, full resolution"
    )
    residual_units: int = Field(default=0, ge=0, le=3, description="per level; 0: one convolution")
    norm_groups: int = Field(default=4, ge=1, description="at most; a divisor of the channels")
    site_norm: SiteNorm = Field(default="residual", description="layer A")

    @model_validator(mode="after")
    def _levels_fit(self) -> UNetConfig:
        if len(self.strides) != len(self.channels) - 1:
            raise ValueError("strides: one less than channels")
        if min(self.channels) < 2 or not set(self.strides) <= {1, 2}:
            raise ValueError("channels of at least 2, strides of 1 or 2")
        return self

    @property
    def multiple(self) -> int:
        """What every side of a volume must divide by inside the network."""
        out = 1
        for stride in self.strides:
            out *= stride
        return out


class HybridConfig(UNetConfig):
    """A U-Net whose coarsest level is read by a transformer."""

    layers: int = Field(default=2, ge=1, le=24, description="transformer layers")
    heads: int = Field(default=4, ge=1, description="divides the channels of the coarsest level")
    hidden: int = Field(default=48, ge=1, description="width between a layer's two linear maps")

    @model_validator(mode="after")
    def _heads_fit(self) -> HybridConfig:
        if self.channels[-1] % self.heads or self.channels[-1] < 6:
            raise ValueError("the last of channels: at least 6 and a multiple of heads")
        return self
