"""Pseudo-labels: what a segmentation says about a scan, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from client.training.site_model import SiteModel
from shared_model.batch import Inputs

#: Below it a proposal waits for a person; above it the hospital may train on it as it is.
CONFIDENT = 0.9


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mask of one scan.

    Attributes:
        mask: ``(D, H, W)`` on the model grid.
        confidence: the Dice that the model expects of its own mask, from 0 to 1.
    """

    mask: npt.NDArray[np.bool_]
    confidence: float

    @property
    def confident(self) -> bool:
        """Whether the filter lets it pass without a person."""
        return self.confidence >= CONFIDENT


@torch.no_grad()
def propose(model: SiteModel, inputs: Inputs) -> list[Proposal]:
    """Proposals for scans, each by itself."""
    model.model.eval()
    logits = model.logits(inputs).double()
    probabilities = torch.softmax(logits, 1)[:, 1].cpu().numpy()
    return [Proposal(p > 0.5, expected_dice(p)) for p in probabilities]


def expected_dice(probability: npt.NDArray[np.float64]) -> float:
    """``2 sum_M p / (sum p + |M|)`` of the mask M where p is above one half.

    It is the Dice that the mask would have if every voxel were a lesion with its probability, up to
    the order of mean and quotient (Li et al. 2021). Without a voxel in M: the probability that
    there is no lesion at the most suspicious one.
    """
    mask = probability > 0.5
    if not mask.any():
        return float(1 - probability.max(initial=0.0))
    return float(2 * probability[mask].sum() / (probability.sum() + mask.sum()))


def kept_share(proposals: Iterable[Proposal]) -> float:
    """Share of proposals that the filter lets pass; NaN without any."""
    passed = [proposal.confident for proposal in proposals]
    return float(np.mean(passed)) if passed else float("nan")
