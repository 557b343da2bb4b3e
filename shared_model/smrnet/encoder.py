"""The convolutional pyramid: one backbone, three scales at 4, 8 and 16 mm for 2 mm input."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from shared_model.layers.site_norm import SiteAdaptiveGroupNorm, SiteNorm
from shared_model.smrnet.lone_conv import convolve
from shared_model.smrnet.weight_standardisation import standardised

SCALES = 3


def _norm(channels: int, mode: SiteNorm) -> SiteAdaptiveGroupNorm:
    # At least four channels a group: the scale of a channel relative to its group survives.
    groups = next(g for g in range(max(1, min(8, channels // 4)), 0, -1) if channels % g == 0)
    return SiteAdaptiveGroupNorm(channels, groups, mode)


class ConvNorm(nn.Module):
    """3x3x3 convolution without bias (the norm would cancel it), SA-GN, SiLU."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, mode: SiteNorm, standardise: bool
    ) -> None:
        super().__init__()
        self.standardise = standardise
        self.conv = nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm = _norm(outputs, mode)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, D, H, W)`` to ``(B, outputs, ceil(D/stride), ...)``."""
        weight = standardised(self.conv.weight) if self.standardise else None
        return functional.silu(self.norm(convolve(self.conv, x, weight)))


class Stage(nn.Module):
    """Halve the resolution, then one residual convolution."""

    def __init__(self, inputs: int, outputs: int, mode: SiteNorm, standardise: bool) -> None:
        super().__init__()
        self.down = ConvNorm(inputs, outputs, 2, mode, standardise)
        self.refine = ConvNorm(outputs, outputs, 1, mode, standardise)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, D, H, W)`` to ``(B, outputs, ceil(D/2), ceil(H/2), ceil(W/2))``."""
        h = self.down(x)
        return cast(Tensor, h + self.refine(h))


class Encoder(nn.Module):
    """Stem and three stages; :meth:`project` is the 1x1x1 lateral of a scale.

    A lateral is linear and pooling is a weighted mean, so projecting pooled features equals pooling
    projected maps, at a thousandth of the cost.
    """

    def __init__(
        self,
        width: int,
        features: int,
        stem_stride: int,
        mode: SiteNorm,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        channels = [width // 2, 2 * width, 4 * width, 8 * width]
        self.stem = ConvNorm(1, channels[0], stem_stride, mode, standardise)
        self.stages = nn.ModuleList(Stage(a, b, mode, standardise) for a, b in pairwise(channels))
        self.laterals = nn.ModuleList(nn.Linear(c, features, bias=False) for c in channels[1:])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps of ``(B, 1, D, H, W)``, finest first, each ``(B, C_s, D_s, H_s, W_s)``."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def project(self, scale: int, pooled: Tensor) -> Tensor:
        """Lateral of one scale: ``(B, N, C_s)`` pooled features to ``(B, N, F)``."""
        return cast(Tensor, self.laterals[scale](pooled))
