"""SMR-Net as its authors published it: 2D, one plane, attention over 32 axial slices."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_model.layers.site_norm import SiteAdaptiveGroupNorm, SiteNorm
from shared_model.smrnet.config import PublishedConfig

SLICES = 32
SLICE_SIZE = 128
_EDGE = 10  # first and last slices that are never shown, in voxels of the grid
INERT = ("attention.2.bias", "key.bias")


@dataclass(frozen=True)
class PublishedOutput:
    """What the published network returns for B scans.

    Attributes:
        logits: ``(B, C)``.
        slice_attention: ``(B, 32)`` weight of every axial slice, summing to one.
        slice_graph: ``(B, 32, 32)`` attention between slices, rows summing to one. The published
            graph has slices as nodes, not regions.
        gate: ``(B, 32, 1024)`` cross-resolution gate in (0, 1): 512 low-, 512 high-resolution.
        embedding: ``(B, 1024)`` attention-pooled and graph-pooled slice features.
    """

    logits: Tensor
    slice_attention: Tensor
    slice_graph: Tensor
    gate: Tensor
    embedding: Tensor


class ConvBlock(nn.Module):
    """Twice 3x3 convolution, group norm and ReLU, then 2x2 maximum.

    The convolutions keep the authors' biases, so that the parameter count is theirs.
    """

    def __init__(self, inputs: int, outputs: int, mode: SiteNorm) -> None:
        super().__init__()
        groups = min(8, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm1 = SiteAdaptiveGroupNorm(outputs, groups, mode)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = SiteAdaptiveGroupNorm(outputs, groups, mode)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, H/2, W/2)``."""
        x = functional.relu(self.norm1(self.conv1(x)))
        return functional.max_pool2d(functional.relu(self.norm2(self.conv2(x))), 2)


class Branch(nn.Module):
    """Four blocks and a global mean: one slice to a vector of 8 times the width."""

    def __init__(self, width: int, mode: SiteNorm) -> None:
        super().__init__()
        channels = [1, width, 2 * width, 4 * width, 8 * width]
        self.blocks = nn.Sequential(*(ConvBlock(a, b, mode) for a, b in pairwise(channels)))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 1, H, W)`` to ``(N, 8 * width)``."""
        return cast(Tensor, self.blocks(x).mean((2, 3)))


class SMRNetPublished(nn.Module):
    """The computation of the public code (science.md 1.1); 12,330,628 parameters at width 64.

    Two branches with separate weights see every slice at 64 and 128 pixels; a gate mixes them;
    additive attention and single-head self-attention over the slices pool them. With
    ``site_norm="residual"`` every norm has a site residual on top of the published count.
    The biases of the attention score and of the keys cancel in their softmax; they are kept for the
    count and belong to the frozen group (:data:`INERT`), where no noise reaches them.
    """

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        width, mode = config.width, config.site_norm
        features = 8 * width
        self.low = Branch(width, mode)
        self.high = Branch(width, mode)
        self.gate = nn.Sequential(
            nn.Linear(2 * features, features), nn.ReLU(), nn.Linear(features, 2 * features)
        )
        self.project = nn.Linear(2 * features, features)
        hidden = features // 4
        self.attention = nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.value = nn.Linear(features, features)
        self.output = nn.Linear(features, features)
        self.classifier = nn.Sequential(
            nn.Linear(2 * features, features // 2),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(features // 2, config.classes),
        )

    def forward(self, x: Tensor) -> PublishedOutput:
        """``(B, 1, D, H, W)`` on the model grid: cut the 32 axial slices, then classify."""
        return self.forward_slices(axial_slices(x))

    def forward_slices(self, x: Tensor) -> PublishedOutput:
        """Classify ``(B, 32, 1, 128, 128)`` slices."""
        batch, slices = x.shape[:2]
        flat = x.flatten(0, 1)
        half = functional.interpolate(flat, scale_factor=0.5, mode="bilinear", align_corners=False)
        both = torch.cat([self.low(half), self.high(flat)], dim=1)
        gate = torch.sigmoid(self.gate(both))
        fused = self.project(both * gate).reshape(batch, slices, -1)
        attention = self.attention(fused).squeeze(-1).softmax(dim=1)
        pooled = torch.einsum("bs,bsf->bf", attention, fused)
        graph = (
            self.query(fused) @ self.key(fused).transpose(1, 2) / fused.shape[-1] ** 0.5
        ).softmax(dim=-1)
        reasoned = self.output(graph @ self.value(fused)).mean(1)
        embedding = torch.cat([pooled, reasoned], dim=1)
        return PublishedOutput(
            logits=self.classifier(embedding),
            slice_attention=attention,
            slice_graph=graph,
            gate=gate.reshape(batch, slices, -1),
            embedding=embedding,
        )


def axial_slices(x: Tensor, count: int = SLICES, size: int = SLICE_SIZE) -> Tensor:
    """``(B, 1, D, H, W)`` to ``(B, count, 1, size, size)`` axial slices, as the authors cut them.

    Slice indices are ``linspace(10, W - 10, count)``; pixels are resampled bilinearly.
    """
    index = torch.linspace(_EDGE, x.shape[-1] - _EDGE, count, dtype=torch.float64).long()
    chosen = x[:, 0].index_select(3, index.to(x.device)).permute(0, 3, 1, 2)
    resized = functional.interpolate(
        chosen, size=(size, size), mode="bilinear", align_corners=False
    )
    return resized.unsqueeze(2)
