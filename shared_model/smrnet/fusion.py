"""Cross-resolution fusion: every token chooses its own mixture of scales."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ScaleFusion(nn.Module):
    """``fused_n = sum_s alpha_ns token_sn`` with ``alpha_n = softmax_s(w_s . token_sn + b_s)``.

    The weights depend on the content of the token; they start nearly equal and are returned.
    """

    def __init__(self, scales: int, features: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.randn(scales, features) * 0.1 / features**0.5)
        self.preference = nn.Parameter(torch.zeros(scales))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, S, N, F)`` to fused tokens ``(B, N, F)`` and scale weights ``(B, N, S)``."""
        scores = ((tokens * self.gate[..., None, :]).sum(-1) + self.preference[..., None]).mT
        alpha = scores.softmax(dim=-1)
        return torch.einsum("bsnf,bns->bnf", tokens, alpha), alpha


class FixedFusion(nn.Module):
    """The mean over the first ``used`` scales, for comparison: no parameters.

    Weights keep the shape of :class:`ScaleFusion`, with zeros for the scales that are not used.
    """

    weights: Tensor

    def __init__(self, scales: int, used: int) -> None:
        super().__init__()
        weights = torch.zeros(scales)
        weights[:used] = 1 / used
        self.register_buffer("weights", weights, persistent=False)
        self.used = used

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, used, N, F)`` to ``(B, N, F)`` and scale weights ``(B, N, S)``."""
        alpha = self.weights.expand(tokens.shape[0], tokens.shape[2], -1)
        return tokens.mean(dim=1), alpha
