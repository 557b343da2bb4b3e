"""How like the original a reconstruction is: SSIM and PSNR of volumes in [0, 1]."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv3d

_WINDOW, _SIGMA = 7, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def to_unit(volume: Tensor, low: float, high: float) -> Tensor:
    """Greys between two values of the ORIGINAL to [0, 1], cut off outside."""
    return ((volume - low) / (high - low)).clamp(0, 1)


def psnr(image: Tensor, reference: Tensor, inside: Tensor) -> float:
    """Peak signal-to-noise ratio in dB over the voxels ``inside``; infinite for equal volumes."""
    error = float((image.double() - reference.double())[inside].square().mean())
    return 10 * math.log10(1 / error) if error > 0 else math.inf


def ssim(image: Tensor, reference: Tensor, inside: Tensor) -> float:
    """Mean structural similarity of ``(D, H, W)`` volumes in [0, 1] (Wang et al. 2004), in 3D.

    Gaussian window of 7 voxels and standard deviation 1.5 at full overlap; the mean is over the
    voxels ``inside``, so that an empty background does not count.
    """
    grid = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    line = torch.exp(-grid.square() / (2 * _SIGMA**2))
    line = line / line.sum()
    window = torch.einsum("i,j,k->ijk", line, line, line)[None, None]

    def smooth(x: Tensor) -> Tensor:
        return conv3d(x[None, None], window)[0, 0]

    a, b = image.double(), reference.double()
    mean_a, mean_b = smooth(a), smooth(b)
    var_a = smooth(a * a) - mean_a.square()
    var_b = smooth(b * b) - mean_b.square()
    both = smooth(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + _C1) * (2 * both + _C2)
    found = top / ((mean_a.square() + mean_b.square() + _C1) * (var_a + var_b + _C2))
    edge = _WINDOW // 2
    return float(found[inside[edge:-edge, edge:-edge, edge:-edge]].mean())
