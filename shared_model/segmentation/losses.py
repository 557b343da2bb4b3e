"""What a segmentation minimises: soft Dice and cross entropy, of each scan on its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from shared_model.segmentation.network import SegmentationOutput

# Added to both sides of the quotient, in voxels: a scan without a lesion has a loss as well.
_SMOOTH = 10.0


def segmentation_losses(output: SegmentationOutput, lesions: Tensor) -> Tensor:
    """``(B,)`` soft Dice loss (Milletari et al. 2016) plus mean cross entropy over voxels.

    Args:
        output: of B scans.
        lesions: ``(B, D, H, W)`` lesion numbers, 0 for none. Numbers are not told apart.

    Dice is a quotient of sums over one scan: over a batch it would couple patients.
    """
    truth = (lesions > 0).to(output.logits.dtype)
    log_p = functional.log_softmax(output.logits, 1)
    entropy = -(log_p[:, 1] * truth + log_p[:, 0] * (1 - truth)).flatten(1).mean(1)
    p, t = log_p[:, 1].exp().flatten(1), truth.flatten(1)
    overlap = (2 * (p * t).sum(1) + _SMOOTH) / ((p * p).sum(1) + t.sum(1) + _SMOOTH)
    return entropy + 1 - overlap


def lesion_mask(output: SegmentationOutput, threshold: float = 0.5) -> Tensor:
    """``(B, D, H, W)`` bool: where the probability of a lesion is above ``threshold``."""
    return output.probability > torch.tensor(threshold, device=output.logits.device)
