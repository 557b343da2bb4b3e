"""What a detector is compared with, made from the lesion numbers of one scan."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# The heatmap falls to one half at about this share of a box's side from its centre.
_SPREAD = 0.2
_LEAST_SPREAD = 0.6  # voxels


@dataclass(frozen=True)
class Targets:
    """Of one scan with N lesions.

    Attributes:
        heat: ``(D, H, W)`` in [0, 1], 1 at the voxel nearest to each centre.
        centres: ``(N, 3)`` those voxels.
        faces: ``(N, 6)`` log of the distances, in voxels, from the centre of that voxel to the
            lower and the upper faces of the box.
    """

    heat: Tensor
    centres: Tensor
    faces: Tensor


def lesion_targets(numbers: Tensor) -> Targets:
    """Targets from lesion numbers ``(D, H, W)``, 0 for none (Zhou et al. 2019, CenterNet)."""
    device = numbers.device
    axes = [torch.arange(side, device=device) + 0.5 for side in numbers.shape]
    heat = torch.zeros(numbers.shape, device=device)
    centres, faces = [], []
    for number in torch.unique(numbers):
        if number == 0:
            continue
        where = (numbers == number).nonzero()
        low, high = where.amin(0).float(), where.amax(0).float() + 1
        voxel = ((low + high) / 2).floor().clamp(max=torch.tensor(numbers.shape, device=device) - 1)
        middle = voxel + 0.5
        sigma = ((high - low) * _SPREAD).clamp(min=_LEAST_SPREAD)
        parts = [
            torch.exp(-((axis - m) ** 2) / (2 * s**2))
            for axis, m, s in zip(axes, middle, sigma, strict=True)
        ]
        spot = parts[0][:, None, None] * parts[1][None, :, None] * parts[2][None, None, :]
        heat = torch.maximum(heat, spot)
        centres.append(voxel.long())
        faces.append(torch.log(torch.cat([middle - low, high - middle]).clamp(min=0.25)))
    if not centres:
        return Targets(
            heat,
            torch.zeros(0, 3, dtype=torch.long, device=device),
            torch.zeros(0, 6, device=device),
        )
    return Targets(heat, torch.stack(centres), torch.stack(faces))
