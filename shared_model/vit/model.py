"""Patches of the brain as tokens, self-attention between them, an additive read-out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_model.layers.site_norm import SiteAffine, SiteNorm
from shared_model.smrnet.attention import GatedScore
from shared_model.vit.config import ViTConfig

_LONGEST_WAVE = 100.0  # in patches: far more than a head has


@dataclass(frozen=True)
class ViTOutput:
    """Logits and explanations of B scans.

    Attributes:
        logits: ``(B, C)``: bias plus the sum over patches of attention times evidence, exactly.
        patch_attention: ``(B, N)``, summing to one, over the N patches that hold brain.
        patch_evidence: ``(B, N, C)`` what each patch says for each class, in logits.
        embedding: ``(B, F)`` the attended patches, before the head.
    """

    logits: Tensor
    patch_attention: Tensor
    patch_evidence: Tensor
    embedding: Tensor


class SiteLayerNorm(SiteAffine):
    """Layer normalisation of each token by itself, with the affine of layer A."""

    def __init__(self, features: int, mode: SiteNorm) -> None:
        super().__init__((features,), mode)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, N, F)``."""
        scale, shift = self.affine()
        return functional.layer_norm(x, x.shape[-1:]) * scale + shift


class Block(nn.Module):
    """Pre-norm self-attention and perceptron (Dosovitskiy et al. 2021).

    Queries, keys and values have no bias: the softmax takes that of the keys away, and under
    privacy a parameter without gradient is noise.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = SiteLayerNorm(config.width, config.site_norm)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.project = nn.Linear(config.width, config.width)
        self.mlp_norm = SiteLayerNorm(config.width, config.site_norm)
        self.up = nn.Linear(config.width, config.mlp)
        self.down = nn.Linear(config.mlp, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, N, F)`` to the same."""
        parts = self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.project(mixed))
        hidden = functional.gelu(self.up(self.mlp_norm(x)))
        out: Tensor = x + self.dropout(self.down(hidden))
        return out


class ViT3D(nn.Module):
    """A vision transformer on the patches of a scan that hold brain.

    Positions are fixed waves of the three coordinates, so nothing has to be learnt, or noised, for
    each place. Nothing couples scans: layer norms see one token, attention one scan.

    Args:
        config: options.
        labels: ``(D, H, W)`` atlas labels on the grid; patches without any are left out.
        spacing_mm: of the grid.
    """

    patches: Tensor
    positions: Tensor

    def __init__(self, config: ViTConfig, labels: Tensor, spacing_mm: float) -> None:
        super().__init__()
        self.edge = max(1, round(config.patch_mm / spacing_mm))
        self.embed = nn.Conv3d(1, config.width, self.edge, stride=self.edge)
        inside = functional.max_pool3d(
            self._padded((labels > 0).float()[None, None]), self.edge, stride=self.edge
        )[0, 0]
        #: ``(N,)`` flat indices of the patches that hold brain.
        self.register_buffer("patches", inside.flatten().nonzero()[:, 0], persistent=False)
        waves = _waves(inside.nonzero(), config.width)
        self.register_buffer("positions", waves, persistent=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = SiteLayerNorm(config.width, config.site_norm)
        self.score = GatedScore(config.width, config.attention_features)
        self.head = nn.Linear(config.width, config.classes)

    def forward(self, x: Tensor) -> ViTOutput:
        """``(B, 1, D, H, W)`` on the model grid to :class:`ViTOutput`."""
        cells = self.embed(self._padded(x)).flatten(2)
        tokens = cells[:, :, self.patches].transpose(1, 2) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        attention = self.score(tokens)[..., 0].softmax(dim=1)
        evidence = tokens @ self.head.weight.T
        return ViTOutput(
            logits=(attention[..., None] * evidence).sum(1) + self.head.bias,
            patch_attention=attention,
            patch_evidence=evidence,
            embedding=(attention[..., None] * tokens).sum(1),
        )

    def _padded(self, x: Tensor) -> Tensor:
        """The far ends filled with zeros up to whole patches."""
        short = [-size % self.edge for size in x.shape[2:]]
        return functional.pad(x, (0, short[2], 0, short[1], 0, short[0]))


def _waves(where: Tensor, width: int) -> Tensor:
    """``(N, F)`` sines and cosines of patch coordinates ``(N, 3)``, as many for each axis."""
    pairs = -(-width // 6)
    rates = _LONGEST_WAVE ** (-torch.arange(pairs) / pairs)
    phase = where[:, :, None].to(torch.get_default_dtype()) * rates
    return torch.cat([phase.sin(), phase.cos()], dim=2).flatten(1)[:, :width].contiguous()
