"""MLP-Mixer over nodes and over their numbers (Tolstikhin et al., NeurIPS 2021)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Mixer(nn.Module):
    """``T = Z + W_2 gelu(W_1 LN(Z)^T)^T``, then ``T + W_4 gelu(W_3 LN(T))``.

    The first half knows nodes by their place: another order of the nodes gives another result,
    where graph layers and attention give the same in the other order.
    """

    def __init__(self, regions: int, width: int, tokens: int, channels: int) -> None:
        super().__init__()
        self.before_tokens = nn.LayerNorm(width)
        self.tokens_in = nn.Linear(regions, tokens)
        self.tokens_out = nn.Linear(tokens, regions, bias=False)
        self.before_channels = nn.LayerNorm(width)
        self.channels_in = nn.Linear(width, channels)
        self.channels_out = nn.Linear(channels, width)

    def forward(self, nodes: Tensor) -> Tensor:
        """``(B, R, d)`` to ``(B, R, d)``."""
        across = self.before_tokens(nodes).transpose(1, 2)
        across = self.tokens_out(functional.gelu(self.tokens_in(across)))
        nodes = nodes + across.transpose(1, 2)
        within = functional.gelu(self.channels_in(self.before_channels(nodes)))
        mixed: Tensor = nodes + self.channels_out(within)
        return mixed
