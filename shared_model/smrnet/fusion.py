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
        scores = torch.einsum("bsnf,sf->bns", tokens, self.gate) + self.preference
        alpha = scores.softmax(dim=-1)
        return torch.einsum("bsnf,bns->bnf", tokens, alpha), alpha
