"""Weight standardisation: the filters of a convolution are centred and scaled before each use."""

from __future__ import annotations

import torch
from torch import Tensor

_EPS = 1e-4


def standardised(weight: Tensor) -> Tensor:
    """``(w - mean) / sqrt(var * n + eps)`` per filter of ``(O, I, *kernel)``, n = ``I * kernel``.

    With group normalisation it makes noisy training of convolutions converge better (Qiao et al.
    2019, arXiv:1903.10520; De et al. 2022, arXiv:2204.13650, under differential privacy). A
    function of the weights alone: it couples no patients.
    """
    flat = weight.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    scale = torch.rsqrt(centred.square().sum(1, keepdim=True) + _EPS)
    return (centred * scale).view_as(weight)
