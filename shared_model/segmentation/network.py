"""MONAI's U-Net as a trunk of features, and a lesion segmentation on top of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn
from torch.nn import functional

from shared_model.segmentation.config import HybridConfig, UNetConfig
from shared_model.segmentation.norms import adapt_norms, site_norm
from shared_model.segmentation.padding import centred_background, cropped, padded
from shared_model.segmentation.transformer import VolumeTransformer

# So rare are lesion voxels at the start: a network that begins at one half unlearns first.
_PRIOR = 0.1


@dataclass(frozen=True)
class SegmentationOutput:
    """What a segmentation says.

    Attributes:
        logits: ``(B, 2, D, H, W)``: background, lesion.
    """

    logits: Tensor

    @property
    def probability(self) -> Tensor:
        """``(B, D, H, W)`` of a lesion."""
        return torch.softmax(self.logits, 1)[:, 1]


class _HybridUNet(UNet):  # type: ignore[misc]
    """MONAI's U-Net with a transformer behind its bottom convolution (Chen et al. 2021)."""

    def __init__(self, hybrid: HybridConfig, **options: object) -> None:
        self._hybrid = hybrid
        super().__init__(**options)

    def _get_bottom_layer(self, in_channels: int, out_channels: int) -> nn.Module:
        convolution = super()._get_bottom_layer(in_channels, out_channels)
        c = self._hybrid
        return nn.Sequential(
            convolution, VolumeTransformer(out_channels, c.layers, c.heads, c.hidden)
        )


class Trunk(nn.Module):
    """Features ``(B, F, D, H, W)`` of a volume ``(B, 1, D, H, W)`` of any sides.

    Convolutions that a norm follows have no bias: its gradient would be noise and nothing else.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        options = {
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": config.features,
            "channels": config.channels,
            "strides": config.strides,
            "num_res_units": config.residual_units,
            "act": ("LEAKYRELU", {"negative_slope": 0.01}),
            "norm": ("GROUP", {"num_groups": 1}),
            "bias": False,
        }
        if isinstance(config, HybridConfig):
            self.net: nn.Module = _HybridUNet(config, **options)
        else:
            self.net = UNet(**options)
        adapt_norms(self.net, config.norm_groups, config.site_norm)
        self.norm = site_norm(config.features, config.norm_groups, config.site_norm)
        self._multiple = config.multiple

    def forward(self, x: Tensor) -> Tensor:
        """Features at full resolution."""
        features = cropped(self.net(padded(centred_background(x), self._multiple)), x)
        return functional.leaky_relu(self.norm(features), 0.01)


class LesionSegmentation(nn.Module):
    """Background or lesion for every voxel of ``(B, 1, D, H, W)``."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.trunk = Trunk(config)
        self.head = nn.Conv3d(config.features, config.classes, 1)
        assert self.head.bias is not None
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([0.0, math.log(_PRIOR / (1 - _PRIOR))]))

    def forward(self, x: Tensor) -> SegmentationOutput:
        """Logits ``(B, 2, D, H, W)``."""
        return SegmentationOutput(self.head(self.trunk(x)))
