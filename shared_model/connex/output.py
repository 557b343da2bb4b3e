"""What ConneX says about B patients, and the joint loss of its heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class ConnexOutput:
    """Predictions and what they rest on, for B patients, R nodes and C classes.

    Attributes:
        logits: ``(B, C)`` of the unified head, or of both heads in late fusion.
        structural_logits: ``(B, C)``, or none where that head does not train.
        functional_logits: ``(B, C)``, or none.
        contributions: ``(B, R, C)``; their mean over nodes plus the head's bias are the logits.
        attention: ``(B, 2, R, R)`` of structural and functional nodes to unified ones, rows sum
            to one; none without cross attention.
        mask: ``(2, R, R)`` shared by all patients, or none.
        embedding: ``(B, E)`` what the head reads, averaged over nodes.
        present: ``(B, 2)`` the modalities that were used.
        head_weights: ``(B, 2)`` weights of the structural and functional losses, 0 where missing.
        penalty: ``(B,)`` the mask's own term: the same number for everybody, of no patient.
    """

    logits: Tensor
    structural_logits: Tensor | None
    functional_logits: Tensor | None
    contributions: Tensor
    attention: Tensor | None
    mask: Tensor | None
    embedding: Tensor
    present: Tensor
    head_weights: Tensor
    penalty: Tensor

    @property
    def importance(self) -> Tensor:
        """``(B, R)`` how much more each node speaks for the predicted class than for the others."""
        chosen = self.logits.argmax(1)[:, None, None].expand(-1, self.contributions.shape[1], 1)
        own = self.contributions.gather(2, chosen)[..., 0]
        others = self.contributions.sum(2) - own
        return own - others / (self.contributions.shape[2] - 1)


def joint_losses(output: ConnexOutput, labels: Tensor) -> Tensor:
    """``(B,)``: ``CE(y^u) + lam_s CE(y^s) + lam_f CE(y^f)`` plus the mask's term.

    Row i is of patient i and public weights alone. A modality that is missing has no loss.
    """
    losses = functional.cross_entropy(output.logits, labels, reduction="none") + output.penalty
    heads = (output.structural_logits, output.functional_logits)
    for modality, logits in enumerate(heads):
        if logits is not None:
            own = functional.cross_entropy(logits, labels, reduction="none")
            losses = losses + output.head_weights[:, modality] * own
    return losses


def late_logits(heads: Tensor, present: Tensor) -> Tensor:
    """``(B, C)`` mean of the heads ``(B, 2, C)`` whose modality is there."""
    weights = present / present.sum(1, keepdim=True).clamp(min=1)
    return torch.einsum("bmc,bm->bc", heads, weights)
