"""Key slices of a volume as pictures, for networks that learnt from photographs."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_model.smrnet.tokens import PLANES, Plane

#: same: one slice three times; neighbours: the slice between its two neighbours (2.5D).
Channels = Literal["same", "neighbours"]

# Of ImageNet, as torchvision's weights expect red, green and blue in [0, 1].
_MEAN = (0.485, 0.456, 0.406)
_SD = (0.229, 0.224, 0.225)
_GREYS = 4.0  # standardised greys are within [-4, 4]; background is -4
_INNER = (0.15, 0.85)  # shares of the brain, along an axis, between which key slices lie


class KeySlices(nn.Module):
    """``(B, 1, D, H, W)`` to pictures ``(B, K, 3, S, S)``; holds constants only.

    K slices for each plane, one after another in the order of ``planes``. They lie evenly between
    the slices that leave 15 % of the atlas's voxels on either side, so every hospital takes the
    same ones. A slice is padded to a square, scaled to S pixels, and its greys from [-4, 4] to the
    range of ImageNet.

    Args:
        labels: ``(D, H, W)`` of the atlas.
        planes: among sagittal, coronal, axial.
        count: slices of each plane.
        channels: what stands for red, green and blue.
        size: S.
    """

    def __init__(
        self, labels: Tensor, planes: tuple[Plane, ...], count: int, channels: Channels, size: int
    ) -> None:
        super().__init__()
        self._planes = planes
        self._size = size
        for plane in planes:
            middle = key_positions(labels, PLANES.index(plane), count)
            reach = torch.tensor([-1, 0, 1]) if channels == "neighbours" else torch.zeros(3).long()
            last = labels.shape[PLANES.index(plane)] - 1
            chosen = (middle[:, None] + reach).clamp(0, last)
            self.register_buffer(plane, chosen, persistent=False)
        self.register_buffer("picture", torch.tensor([size]), persistent=False)
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(3, 1, 1), persistent=False)
        self.register_buffer("sd", torch.tensor(_SD).reshape(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures of a batch of volumes."""
        out = []
        for plane in self._planes:
            rows = cast(Tensor, getattr(self, plane))
            axis = PLANES.index(plane) + 1
            taken = x[:, 0].index_select(axis, rows.flatten()).movedim(axis, 1)
            height, width = taken.shape[2:]
            side = max(height, width)
            above, left = (side - height) // 2, (side - width) // 2
            square = (left, side - width - left, above, side - height - above)
            padded = functional.pad(taken, square, value=-_GREYS)
            scaled = functional.interpolate(
                padded, size=(self._size, self._size), mode="bilinear", align_corners=False
            )
            out.append(scaled.reshape(len(x), *rows.shape, self._size, self._size))
        greys = (torch.cat(out, 1).clamp(-_GREYS, _GREYS) + _GREYS) / (2 * _GREYS)
        return (greys - self.mean) / self.sd  # type: ignore[operator]


def key_positions(labels: Tensor, axis: int, count: int) -> Tensor:
    """``(count,)`` indices of slices along an axis, evenly over the inner brain."""
    mass = (labels > 0).sum([a for a in range(3) if a != axis]).double()
    share = (mass.cumsum(0) / mass.sum()).contiguous()
    first, last = (int(torch.searchsorted(share, level)) for level in _INNER)
    return torch.linspace(first, last, count + 2, dtype=torch.float64)[1:-1].round().long()
