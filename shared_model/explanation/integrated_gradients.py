"""Integrated gradients from a public brain to the scan."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from shared_model.explanation.relevance import Case, Relevance, magnitude

STEPS = 16
# Single voxels carry the checkerboard of strided convolutions; regions are what is looked at.
_SMOOTHING_VOXELS = 1.5


def integrated_gradients(case: Case, steps: int = STEPS) -> Relevance:
    """Magnitude of :func:`attributions`, smoothed by a Gaussian of 1.5 voxels."""
    values = attributions(case, steps)
    smooth = gaussian_filter(values.abs().cpu().numpy(), _SMOOTHING_VOXELS)
    return Relevance("integrated_gradients", magnitude(torch.from_numpy(smooth)))


def attributions(case: Case, steps: int = STEPS) -> Tensor:
    """``(D, H, W)`` signed parts of ``score(scan) - score(baseline)`` (Sundararajan et al. 2017).

    The straight path from the baseline is summed by the midpoint rule; the parts add up to the
    difference up to its error. Model parameters get no gradient.
    """
    start = torch.from_numpy(np.array(case.baseline))[None, None].to(case.volume)
    change = case.volume - start
    total = torch.zeros_like(change)
    for step in range(steps):
        point = (start + (step + 0.5) / steps * change).detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(case.score(point).sum(), point)
        total += gradient / steps
    return (total * change)[0, 0].detach()
