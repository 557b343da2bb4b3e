"""The unified view of both modalities, and attention of each modality to it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class UnifiedView(nn.Module):
    """``H^u = LN(W_u [H^s ; H^f])``; a modality that is missing enters as zeros."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.join = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, nodes: Tensor) -> Tensor:
        """``(B, 2, R, d)`` to ``(B, R, d)``."""
        joined: Tensor = self.norm(self.join(torch.cat((nodes[:, 0], nodes[:, 1]), dim=-1)))
        return joined


class CrossAttention(nn.Module):
    """``C^m = softmax((H^m W_q^m)(H^u W_k)^T / sqrt d) (H^u W_v)`` for both modalities m.

    No biases: one of the keys adds the same to every score of a row, which the softmax takes out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(2))
        self.keys = nn.Linear(width, width, bias=False)
        self.values = nn.Linear(width, width, bias=False)
        self.scale = 1 / math.sqrt(width)

    def forward(self, nodes: Tensor, unified: Tensor) -> tuple[Tensor, Tensor]:
        """What each node of ``nodes (B, 2, R, d)`` finds in ``unified (B, R, d)``, and where.

        The first is ``(B, 2, R, d)``; the second, ``(B, 2, R, R)``, has rows that sum to one.
        """
        queries = torch.stack([linear(nodes[:, m]) for m, linear in enumerate(self.queries)], 1)
        keys, values = self.keys(unified)[:, None], self.values(unified)[:, None]
        attention = torch.softmax(queries @ keys.transpose(-1, -2) * self.scale, dim=-1)
        return attention @ values, attention
