"""One mask over edges per modality, the same for all patients: which connections carry the label.

After IBGNN+ (Cui et al., MICCAI 2022): ``e'_ij = e_ij sigmoid(M_ij)``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

MODALITIES = 2


class ExplanationMask(nn.Module):
    """``(2, R, R)`` symmetric masks in (0, 1) with a zero diagonal, from one number per edge.

    Args:
        regions: R nodes.
        gain: of the parameter, which stands in for a learning rate of its own: plain SGD moves
            the mask ``gain^2`` times as far.
    """

    position: Tensor
    off_diagonal: Tensor

    def __init__(self, regions: int, gain: float) -> None:
        super().__init__()
        self.gain = gain
        rows, columns = torch.triu_indices(regions, regions, 1)
        position = torch.zeros(regions, regions, dtype=torch.int64)
        position[rows, columns] = position[columns, rows] = torch.arange(len(rows))
        self.register_buffer("position", position, persistent=False)
        self.register_buffer("off_diagonal", 1 - torch.eye(regions), persistent=False)
        self.logits = nn.Parameter(torch.zeros(MODALITIES, len(rows)))

    def forward(self) -> Tensor:
        """``(2, R, R)``; no patient has a part in it."""
        edges = torch.sigmoid(self.gain * self.logits)
        return edges[:, self.position] * self.off_diagonal

    def penalty(self, sparsity: float, entropy: float) -> Tensor:
        """A number of the mask alone: its mean size and mean entropy, weighted."""
        scores = self.gain * self.logits
        edges = torch.sigmoid(scores)
        # -p log p - (1 - p) log(1 - p), in a form that is finite at both ends.
        uncertain = functional.softplus(scores) - edges * scores
        return sparsity * edges.mean() + entropy * uncertain.mean()
