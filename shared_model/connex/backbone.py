"""The graph network of one modality, on dense graphs of one patient."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class GraphLayer(nn.Module):
    """``h + gelu(h W + sum_c A_c h W_c)``, with a matrix for each channel c of the edges."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.own = nn.Linear(width, width)
        self.from_neighbours = nn.ModuleList(
            nn.Linear(width, width, bias=False) for _ in range(channels)
        )

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """Nodes ``(B, R, d)`` and edges ``(B, c, R, R)`` to ``(B, R, d)``."""
        message = self.own(nodes)
        for channel, linear in enumerate(self.from_neighbours):
            message = message + edges[:, channel] @ linear(nodes)
        return nodes + functional.gelu(message)


class Backbone(nn.Module):
    """Node features are rows of the masked connectome: an edge off the mask is not seen at all.

    Args:
        regions: R nodes, which is the length of a profile too.
        width: d numbers per node.
        layers: graph layers.
        channels: 1, or 2 where edges have a sign.
    """

    def __init__(self, regions: int, width: int, layers: int, channels: int) -> None:
        super().__init__()
        self.describe = nn.Linear(regions, width)
        self.layers = nn.ModuleList(GraphLayer(width, channels) for _ in range(layers))

    def forward(self, profiles: Tensor, edges: Tensor, mask: Tensor | None) -> Tensor:
        """``(B, R, d)``, each node standardised over its own numbers.

        Args:
            profiles: ``(B, R, R)`` standardised edges.
            edges: ``(B, c, R, R)`` non-negative, with loops.
            mask: ``(R, R)`` with a zero diagonal, or none; loops stay.
        """
        if mask is not None:
            profiles = profiles * mask
            edges = edges * (mask + torch.eye(len(mask), dtype=mask.dtype, device=mask.device))
        nodes = self.describe(profiles)
        for layer in self.layers:
            nodes = layer(nodes, edges)
        return functional.layer_norm(nodes, nodes.shape[-1:])
