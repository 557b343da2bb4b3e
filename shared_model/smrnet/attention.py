"""Gated attention scores (Ilse et al. 2018), shared by slices and regions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GatedScore(nn.Module):
    """``w . (tanh(V h) * sigmoid(U h))`` per token and query.

    No bias on the score: a softmax would cancel it and it would only carry noise. ``w`` starts
    small, not at zero, so that the attention starts nearly uniform and V and U learn from step one.
    """

    def __init__(self, features: int, hidden: int, queries: int = 1) -> None:
        super().__init__()
        self.value = nn.Linear(features, hidden)
        self.gate = nn.Linear(features, hidden)
        self.query = nn.Parameter(torch.randn(queries, hidden) * 0.1 / hidden**0.5)

    def forward(self, h: Tensor) -> Tensor:
        """``(B, N, F)`` to scores ``(B, N, queries)``."""
        return (
            torch.tanh(_linear(self.value, h)) * torch.sigmoid(_linear(self.gate, h))
        ) @ self.query.mT


def _linear(layer: nn.Linear, h: Tensor) -> Tensor:
    # Not the layer itself: every scan may have its own weights (SMRNet.parameters_per_scan).
    return h @ layer.weight.mT + layer.bias[..., None, :]
