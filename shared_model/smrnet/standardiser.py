"""Normative standardisation: how far a token lies from a public reference population."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared_model.errors import SmrfedError
from shared_model.smrnet.tokens import Tokens

# A token that hardly varies in the reference must not blow rounding up to a finding.
_SD_FLOOR = 0.05


class TokenStandardiser(nn.Module):
    """``(token - mean) / sd`` per scale, token and feature.

    Mean and sd are frozen parameters (they travel with the public weights) and start as identity.
    They may be fitted on PUBLIC data only: an un-noised statistic of patients that steers a release
    would void the privacy guarantee.
    """

    def __init__(self, scales: int, regions: int, slices: int, features: int) -> None:
        super().__init__()

        def frozen(value: float, tokens: int) -> nn.Parameter:
            return nn.Parameter(torch.full((scales, tokens, features), value), requires_grad=False)

        self.region_mean = frozen(0.0, regions)
        self.region_sd = frozen(1.0, regions)
        self.slice_mean = frozen(0.0, slices)
        self.slice_sd = frozen(1.0, slices)

    def forward(self, tokens: Tokens) -> Tokens:
        """Standardise; shapes as in :class:`Tokens`."""
        return Tokens(
            (tokens.regions - self.region_mean) / self.region_sd,
            (tokens.slices - self.slice_mean) / self.slice_sd,
        )

    @torch.no_grad()
    def fit(self, reference: Sequence[Tokens]) -> None:
        """Set mean and sd from raw tokens of public scans; raises SMR-E604 below two scans."""
        count = sum(len(part) for part in reference)
        if count < 2:
            raise SmrfedError(
                "SMR-E604",
                "the token standardiser needs a reference population",
                expected="raw tokens of at least two public scans",
                found=f"{count} scans",
                remedy="pass the tokens of the public cohort, or keep the identity",
            )
        joined = Tokens.cat(reference).to(torch.float64)
        _fit(joined.regions, self.region_mean, self.region_sd)
        _fit(joined.slices, self.slice_mean, self.slice_sd)


def _fit(values: Tensor, mean: nn.Parameter, sd: nn.Parameter) -> None:
    spread = values.std(0)
    varying = spread[spread > 0]
    floor = _SD_FLOOR * varying.median() if len(varying) else spread.new_tensor(1.0)
    mean.copy_(values.mean(0))
    # Slices without brain are zero for everybody: identity keeps them zero.
    sd.copy_(torch.where(spread > 0, spread.clamp(min=floor), torch.ones_like(spread)))
