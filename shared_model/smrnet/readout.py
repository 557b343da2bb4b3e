"""Additive read-out of the graph: each region gives evidence, attention weighs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared_model.smrnet.attention import GatedScore

# The common part sums the gradient of all regions; damped, it keeps the step size of the others.
_COMMON_GAIN = 0.5

# See slice_attention.PRIOR_GAIN; regions need less, because their evidence has a gain as well.
PRIOR_GAIN = 6.0


@dataclass(frozen=True)
class GraphReadout:
    """What the regions say.

    Importance ``(B, R)``, evidence ``(B, R, C)``, logits ``(B, C)`` and pooled nodes ``(B, G)``.
    """

    importance: Tensor
    evidence: Tensor
    logits: Tensor
    pooled: Tensor


class RegionReadout(nn.Module):
    """``logits = sum_r a_r e_r``: the decomposition is exact (additive MIL, Javed et al. 2022).

    ``a`` is a softmax of a gated score plus a learnt prior of the region; ``e_r = (W + W_r) h_r``
    has a common part, which every region informs, and a part of the region's own (W is scaled).
    """

    def __init__(self, regions: int, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.features = features
        # Uniform attention averages R nearly independent terms to 1/sqrt(R): the gain gives the
        # gradient back. Half of it, because plain SGD must stay stable when attention sharpens.
        self.gain = 0.5 * regions**0.5
        self.score = GatedScore(features, hidden)
        self.prior = nn.Parameter(torch.zeros(regions))
        # Zero: the first step then finds the direction that the data say, and the attention follows
        # it instead of a random one. Only the evidence starts at zero, so no gradient vanishes.
        self.common = nn.Parameter(torch.zeros(classes, features))
        self.own = nn.Parameter(torch.zeros(regions, classes, features))

    def forward(
        self,
        h: Tensor,
        place: Callable[[Tensor], Tensor] | None = None,
        beside: Tensor | None = None,
    ) -> GraphReadout:
        """Read ``(B, R, G)`` nodes; the site's ``place`` moves what they say, not who says it.

        ``beside`` ``(B, R, C)`` is what regions say without the graph.
        """
        scores = self.score(h)[..., 0] + PRIOR_GAIN * self.prior
        importance = scores.softmax(dim=1)
        if place is not None:
            h = place(h)
        weights = _COMMON_GAIN * self.common[..., None, :, :] + self.own
        # Not einsum: for the gradient of each patient it becomes a product of matrices per region.
        said = (h[:, :, None] * weights).sum(-1)
        evidence = self.gain * (said if beside is None else said + beside)
        return GraphReadout(
            importance=importance,
            evidence=evidence,
            logits=torch.einsum("br,brc->bc", importance, evidence),
            pooled=torch.einsum("br,brf->bf", importance, h),
        )
