"""An anchor-free lesion detector in 3D: a heatmap of centres, and the box around each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_model.detection.targets import lesion_targets
from shared_model.segmentation.config import UNetConfig
from shared_model.segmentation.network import Trunk

_PRIOR = 0.01  # of a centre, at the start (Lin et al. 2017)
_START_VOXELS = 1.5  # of a face from the centre, at the start


@dataclass(frozen=True)
class DetectionOutput:
    """What a detector says.

    Attributes:
        logits: ``(B, 1, D, H, W)``: the centre of a lesion.
        faces: ``(B, 6, D, H, W)`` log distances in voxels from a voxel's centre to the lower and
            the upper faces of the lesion's box.
    """

    logits: Tensor
    faces: Tensor

    @property
    def heatmap(self) -> Tensor:
        """``(B, D, H, W)`` in (0, 1)."""
        return self.logits[:, 0].sigmoid()


class LesionDetector(nn.Module):
    """Centres and boxes of lesions in ``(B, 1, D, H, W)`` (CenterNet, in 3D)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.trunk = Trunk(config)
        self.heat = nn.Conv3d(config.features, 1, 1)
        self.faces = nn.Conv3d(config.features, 6, 1)
        assert self.heat.bias is not None
        assert self.faces.bias is not None
        with torch.no_grad():
            self.heat.bias.fill_(math.log(_PRIOR / (1 - _PRIOR)))
            self.faces.bias.fill_(math.log(_START_VOXELS))

    def forward(self, x: Tensor) -> DetectionOutput:
        """Heatmap and boxes at full resolution."""
        features = self.trunk(x)
        return DetectionOutput(self.heat(features), self.faces(features))


@dataclass(frozen=True)
class DetectionLosses:
    """``(B,)`` losses of scans: penalty-reduced focal loss of the heatmap, and L1 of the boxes.

    Both are divided by the lesions of the scan itself, at least one (Zhou et al. 2019, eq. 1), and
    a scan without a lesion has the first alone.
    """

    focal_power: float = 2.0
    size_weight: float = 0.3

    def __call__(self, output: DetectionOutput, lesions: Tensor) -> Tensor:
        """From lesion numbers ``(B, D, H, W)``."""
        return torch.stack([self._of_one(output, lesions, row) for row in range(len(lesions))])

    def _of_one(self, output: DetectionOutput, lesions: Tensor, row: int) -> Tensor:
        target = lesion_targets(lesions[row])
        logit, heat = output.logits[row, 0], target.heat.to(output.logits.dtype)
        p = logit.sigmoid()
        x, y, z = target.centres.unbind(1)
        at_centre = torch.zeros_like(heat)
        at_centre[x, y, z] = 1.0
        hit = at_centre * (1 - p) ** self.focal_power * functional.logsigmoid(logit)
        miss = (
            (1 - at_centre) * (1 - heat) ** 4 * p**self.focal_power * functional.logsigmoid(-logit)
        )
        count = max(1, len(target.centres))
        loss = -(hit + miss).sum() / count
        said = output.faces[row][:, x, y, z].T
        return loss + self.size_weight * (said - target.faces.to(said.dtype)).abs().sum() / count
