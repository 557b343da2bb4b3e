"""From connectivity matrices to what the network reads: per patient, with public constants only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared_model.batch import Batch
from shared_model.connex.config import ConnexConfig

#: Correlations are kept off 1, where Fisher's z is infinite.
LARGEST_CORRELATION = 0.999
#: An edge that deviates by more counts as this many standard deviations.
LARGEST_DEVIATION = 6.0
_TINY = 1e-6
_LEAST_DEVIATION = 0.05


@dataclass(frozen=True)
class Connectomes(Batch):
    """What a hospital brings: ``(B, R, R)`` symmetric, and ``(B,)`` 1 where there is one.

    ``structural`` is non-negative. The diagonals are not looked at.
    """

    structural: Tensor
    functional: Tensor
    has_structural: Tensor
    has_functional: Tensor


@dataclass(frozen=True)
class Graphs(Batch):
    """Two graphs per patient on the same R nodes: structural, then functional.

    Attributes:
        profiles: ``(B, 2, R, R)`` transformed edges, standardised over the patient's own edges and
            then against the public reference; row i is what node i is described by.
        edges: ``(B, 3, R, R)`` non-negative and normalised by degree with a loop at every node:
            structural, functional positive, functional negative (the sign's channels).
        present: ``(B, 2)`` 1 where there is a connectome; all else is zero where there is none.
    """

    profiles: Tensor
    edges: Tensor
    present: Tensor


class EdgeReference(nn.Module):
    """What each edge is like in a public cohort: ``(2, R, R)`` mean and deviation of profiles.

    A frozen part (``reference.*``) of the plan's public weights. People are far more alike than
    their edges are: without it the network has to learn first what all of them share. 0 and 1, and
    so without effect, where the plan names no public weights.
    """

    def __init__(self, regions: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2, regions, regions), requires_grad=False)
        self.deviation = nn.Parameter(torch.ones(2, regions, regions), requires_grad=False)

    def forward(self, profiles: Tensor) -> Tensor:
        """Deviations ``(B, 2, R, R)`` from the public cohort."""
        return (profiles - self.mean) / self.deviation.clamp(min=_LEAST_DEVIATION)


class GraphTransform(nn.Module):
    """The fixed half of the network; it has no parameters, and sees one patient at a time."""

    choices: Tensor
    off_diagonal: Tensor

    def __init__(self, config: ConnexConfig, regions: int) -> None:
        super().__init__()
        self.log1p = config.structural == "log1p"
        self.fisher_z = config.functional == "fisher_z"
        # The cache of tokens knows a transform by its constants.
        choices = torch.tensor([float(self.log1p), float(self.fisher_z)])
        self.register_buffer("choices", choices, persistent=False)
        self.register_buffer("off_diagonal", 1 - torch.eye(regions), persistent=False)

    def forward(self, x: Connectomes, reference: EdgeReference) -> Graphs:
        """Transform, standardise per patient, compare with the public, normalise by degree."""
        keep = self.off_diagonal
        present = torch.stack((x.has_structural, x.has_functional), dim=1)
        here = present[:, :, None, None]
        structural = x.structural.clamp(min=0) * keep
        structural = torch.log1p(structural) if self.log1p else structural
        functional = x.functional * keep
        if self.fisher_z:
            bound = LARGEST_CORRELATION
            functional = torch.atanh(functional.clamp(-bound, bound))
        weights = torch.stack((structural, functional.clamp(min=0), (-functional).clamp(min=0)), 1)
        profiles = reference(self._standardised(torch.stack((structural, functional), dim=1)))
        profiles = profiles.clamp(-LARGEST_DEVIATION, LARGEST_DEVIATION) * keep
        edges = self._by_degree(weights) * here[:, [0, 1, 1]]
        return Graphs(profiles * here, edges, present)

    def _standardised(self, matrices: Tensor) -> Tensor:
        """Edges minus their mean over their deviation, both of this patient and modality alone."""
        keep = self.off_diagonal
        count = keep.sum()
        mean = (matrices * keep).sum((2, 3), keepdim=True) / count
        centred = (matrices - mean) * keep
        deviation = (centred.square().sum((2, 3), keepdim=True) / count).sqrt()
        return centred / (deviation + _TINY)

    def _by_degree(self, weights: Tensor) -> Tensor:
        """``D^-1/2 (A + I) D^-1/2`` with A in units of its own mean (Kipf and Welling 2017)."""
        mean = weights.sum((2, 3), keepdim=True) / self.off_diagonal.sum()
        looped = weights / (mean + _TINY) / len(self.off_diagonal) + (1 - self.off_diagonal)
        root = looped.sum(3).rsqrt()
        return looped * root[..., :, None] * root[..., None, :]
