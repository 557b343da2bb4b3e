"""Throw-away heads that teach an encoder morphometry: tissue, volumes, age, sex; no diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_model.smrnet.tokens import Tokens

TISSUES = 3
# A tissue share varies by about 0.3 over the brain: this brings its error to the scale of z-scores.
_TISSUE_WEIGHT = 10.0


@dataclass(frozen=True)
class MorphometryTargets:
    """Standardised targets of B public subjects.

    Attributes:
        volumes: ``(B, R)`` z-scores of log(region volume / intracranial volume).
        csf: ``(B, L)`` z-scores of the CSF share of each slice; zero where a slice holds no brain.
        person: ``(B, 2)`` z-scored age, and sex as -1 or 1.
    """

    volumes: Tensor
    csf: Tensor
    person: Tensor

    def __getitem__(self, rows: Tensor | list[int]) -> MorphometryTargets:
        return MorphometryTargets(self.volumes[rows], self.csf[rows], self.person[rows])


class MorphometryHeads(nn.Module):
    """Linear read-outs of raw tokens: one per region and slice, around a common one."""

    def __init__(self, scales: int, regions: int, slices: int, features: int) -> None:
        super().__init__()
        inputs = scales * features
        self.region_common = nn.Parameter(torch.randn(inputs) / inputs**0.5)
        self.region_own = nn.Parameter(torch.zeros(regions, inputs))
        self.region_bias = nn.Parameter(torch.zeros(regions))
        self.slice_common = nn.Parameter(torch.randn(inputs) / inputs**0.5)
        self.slice_own = nn.Parameter(torch.zeros(slices, inputs))
        self.slice_bias = nn.Parameter(torch.zeros(slices))
        self.person = nn.Linear(inputs, 2)

    def forward(self, tokens: Tokens) -> MorphometryTargets:
        """Predict the targets from ``(B, S, R, F)`` and ``(B, S, L, F)`` tokens."""
        regions = tokens.regions.permute(0, 2, 1, 3).flatten(2)
        slices = tokens.slices.permute(0, 2, 1, 3).flatten(2)
        volumes = torch.einsum("brf,rf->br", regions, self.region_common + self.region_own)
        csf = torch.einsum("blf,lf->bl", slices, self.slice_common + self.slice_own)
        return MorphometryTargets(
            volumes + self.region_bias, csf + self.slice_bias, self.person(regions.mean(1))
        )


def morphometry_loss(predicted: MorphometryTargets, truth: MorphometryTargets) -> Tensor:
    """Mean squared error of the three kinds of target, volumes first in weight."""
    return (
        (predicted.volumes - truth.volumes).square().mean()
        + 0.5 * (predicted.csf - truth.csf).square().mean()
        + 0.1 * (predicted.person - truth.person).square().mean()
    )


class TissueHeads(nn.Module):
    """Share of CSF, grey and white matter in every cell, from the feature map of each scale.

    The input was seen through a random scanner and the target is the clean anatomy, so the encoder
    must learn what tissue is, whatever the contrast (domain randomisation, Billot et al. 2023).
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv3d(count, TISSUES, 1) for count in channels)

    def loss(self, maps: Sequence[Tensor], tissue: Tensor) -> Tensor:
        """Mean squared error over cells that hold any head.

        ``maps``: ``(B, C_s, D_s, H_s, W_s)``; ``tissue``: ``(B, 3, D, H, W)`` shares in [0, 1].
        """
        total = tissue.new_zeros(())
        for head, features in zip(self.heads, maps, strict=True):
            d, h, w = features.shape[2:]
            target = functional.adaptive_avg_pool3d(tissue, (d, h, w))
            inside = target.sum(1, keepdim=True) > 0
            error = (head(features) - target).square() * inside
            total = total + error.sum() / (TISSUES * inside.sum())
        return _TISSUE_WEIGHT * total
