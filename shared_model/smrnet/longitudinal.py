"""SMR-Net on a scan and the patient's scan before it: where the brain is, and how fast it moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from shared_model.batch import Batch
from shared_model.smrnet.config import SMRNetConfig
from shared_model.smrnet.model import SMRNet
from shared_model.smrnet.output import SMRNetOutput
from shared_model.smrnet.tokens import Tokens

# Two scans of one month differ by their noise: divided by the time it would drown everything.
_SHORTEST_YEARS = 0.5


@dataclass(frozen=True)
class VisitPair(Batch):
    """B scans, each with the newest earlier one of the same patient.

    Attributes:
        volume: ``(B, 1, D, H, W)`` on the model grid.
        earlier_volume: the same of the visit before; the scan itself where there is none.
        years_between: ``(B,)`` years between the two; 0 where there is none.
    """

    volume: Tensor
    earlier_volume: Tensor
    years_between: Tensor


@dataclass(frozen=True)
class PairTokens(Batch):
    """Tokens of the scan as in :class:`Tokens`, and their change per year; zero without a pair."""

    regions: Tensor
    slices: Tensor
    region_change: Tensor
    slice_change: Tensor


class YearlyChange(nn.Module):
    """What a change per year adds to a token: one linear map of its features, zero at the start."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.regions = nn.Parameter(torch.zeros(features, features))
        self.slices = nn.Parameter(torch.zeros(features, features))

    def forward(self, tokens: PairTokens) -> Tokens:
        """``t + change @ W``, of regions and slices alike."""
        return Tokens(
            tokens.regions + _mapped(tokens.region_change, self.regions),
            tokens.slices + _mapped(tokens.slice_change, self.slices),
        )


def _mapped(change: Tensor, weight: Tensor) -> Tensor:
    """``(B, S, N, F)`` times ``(F, F)``, or times ``(B, F, F)``: a weight for each scan."""
    return change @ (weight if weight.dim() == 2 else weight[:, None])


class LongitudinalSMRNet(SMRNet):
    """SMR-Net whose tokens are moved by how they changed since the visit before.

    Both scans go through the same public encoder; nothing of a later visit is looked at. Without an
    earlier scan, and before training, it computes exactly what :class:`SMRNet` does, so its public
    weights fit. New parameters begin with ``change.``.
    """

    tokens = PairTokens  # type: ignore[assignment]
    above_tokens = ("reasoner.", "change.")

    def __init__(self, config: SMRNetConfig, labels: Tensor, adjacency: Tensor) -> None:
        super().__init__(config, labels, adjacency)
        self.change = YearlyChange(config.reasoner_features)

    def tokenise(self, x: VisitPair) -> PairTokens:  # type: ignore[override]
        """Standardised tokens of the scan, and their change per year."""
        now = cast(Tokens, self.standardiser(self.raw_tokens(x.volume)))
        before = cast(Tokens, self.standardiser(self.raw_tokens(x.earlier_volume)))
        years = x.years_between[:, None, None, None]
        rate = (years > 0) / years.clamp(min=_SHORTEST_YEARS)
        return PairTokens(
            now.regions,
            now.slices,
            (now.regions - before.regions) * rate,
            (now.slices - before.slices) * rate,
        )

    def reason(self, tokens: PairTokens) -> SMRNetOutput:  # type: ignore[override]
        """Prediction and explanations from pairs of tokens."""
        return super().reason(self.change(tokens))

    def forward(self, x: VisitPair) -> SMRNetOutput:  # type: ignore[override]
        """A batch of pairs to :class:`SMRNetOutput`."""
        return self.reason(self.tokenise(x))
