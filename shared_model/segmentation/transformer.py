"""A transformer over the voxels of a coarse level (Vaswani et al. 2017, pre-norm)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class VolumeTransformer(nn.Module):
    """``(B, C, D, H, W)`` to the same shape: every voxel is a token and sees all of its scan.

    Layers have no biases: that of the keys has no gradient at all, and would be noise under DP.
    Where a token lies is told by sines and cosines, so the grid may have any size.
    """

    def __init__(self, channels: int, layers: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                channels,
                heads,
                hidden,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
                bias=False,
            )
            for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + positions(x)
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens.transpose(1, 2).reshape(x.shape)


def positions(x: Tensor) -> Tensor:
    """``(D * H * W, C)`` sines and cosines of each axis; what is left of C over six stays zero."""
    channels, sides = x.shape[1], x.shape[2:]
    count = channels // 6
    octaves = 2.0 ** torch.arange(count, device=x.device)
    out = torch.zeros(*sides, channels, device=x.device, dtype=x.dtype)
    for axis, side in enumerate(sides):
        place = (torch.arange(side, device=x.device) + 0.5) / side * torch.pi
        angle = place[:, None] * octaves
        shape = [1, 1, 1, count]
        shape[axis] = side
        first = 2 * axis * count
        out[..., first : first + count] = angle.sin().reshape(shape).to(x.dtype)
        out[..., first + count : first + 2 * count] = angle.cos().reshape(shape).to(x.dtype)
    return out.reshape(-1, channels)
