"""Graph network over atlas regions: anatomical edges, optionally learnt ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import DenseGCNConv


class AtlasEdges(nn.Module):
    """The fixed anatomical adjacency ``(R, R)``, scaled to a maximum of one; no parameters."""

    adjacency: Tensor

    def __init__(self, adjacency: Tensor) -> None:
        super().__init__()
        scaled = adjacency / adjacency.max().clamp(min=1e-12)
        self.register_buffer("adjacency", scaled.to(torch.get_default_dtype()), persistent=False)

    def forward(self, extra: Tensor | None = None) -> Tensor:
        """``(R, R)`` non-negative edge weights, with the learnt ones added where given."""
        return self.adjacency if extra is None else self.adjacency + extra


class LearnedEdges(nn.Module):
    """Undirected low-rank edges ``softplus(P P^T - log R)``: a degree of about one at the start."""

    def __init__(self, regions: int, rank: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.randn(regions, rank) * 0.3)

    def forward(self) -> Tensor:
        """``(R, R)`` positive edge weights."""
        return functional.softplus(self.factor @ self.factor.mT - math.log(self.factor.shape[-2]))


class SharedGraphConv(DenseGCNConv):  # type: ignore[misc]
    """:class:`DenseGCNConv` where all patients have the same edges, as an atlas gives them.

    The same sums; but one product of matrices for the whole batch, where a copy of the edges per
    patient makes as many small ones.
    """

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """``(B, R, F)`` nodes and ``(R, R)`` edges to ``(B, R, G)``."""
        own = torch.eye(adjacency.shape[-1], dtype=torch.bool, device=adjacency.device)
        edges = torch.where(own, 1.0, adjacency)
        scale = edges.sum(-1).clamp(min=1).pow(-0.5)
        nodes: Tensor = x @ self.lin.weight.mT
        weights = scale[..., :, None] * edges * scale[..., None, :]
        return (nodes.mT @ weights.mT).mT


class GraphBlock(nn.Module):
    """``h + tanh(GCN(h, A))``: the neighbourhood speaks, but never louder than one.

    The skip path stays linear, so how far a region lies from the reference reaches the read-out;
    no norm takes it away.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv = SharedGraphConv(features, features, bias=False)
        with torch.no_grad():
            self.conv.lin.weight.mul_(0.5)

    def forward(self, h: Tensor, adjacency: Tensor) -> Tensor:
        """``(B, R, G)`` nodes and ``(R, R)`` edges to ``(B, R, G)``."""
        return h + torch.tanh(self.conv(h, adjacency))


class AtlasGraph(nn.Module):
    """Region tokens to graph nodes, then message passing along the edges."""

    def __init__(
        self, adjacency: Tensor, features: int, nodes: int, blocks: int, edge_rank: int
    ) -> None:
        super().__init__()
        self.edges = AtlasEdges(adjacency)
        self.learned = LearnedEdges(len(adjacency), edge_rank) if edge_rank else None
        self.embed = nn.Linear(features, nodes, bias=False)
        nn.init.orthogonal_(self.embed.weight)
        self.blocks = nn.ModuleList(GraphBlock(nodes) for _ in range(blocks))

    def forward(self, regions: Tensor, nodes: Tensor | None = None) -> Tensor:
        """``(B, R, F)`` to ``(B, R, G)``; ``nodes`` ``(B, R, G)`` are added before the blocks."""
        adjacency = self.edges(None if self.learned is None else self.learned())
        h: Tensor = regions @ self.embed.weight.mT
        if nodes is not None:
            h = h + nodes
        for block in self.blocks:
            h = block(h, adjacency)
        return h
