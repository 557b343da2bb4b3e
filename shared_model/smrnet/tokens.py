"""From feature maps to tokens: one per atlas region and one per slice, at every scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_model.batch import Batch

Plane = Literal["sagittal", "coronal", "axial"]
PLANES: tuple[Plane, Plane, Plane] = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Tokens(Batch):
    """What the reasoner sees of a batch of scans; with a frozen encoder it is computed once.

    Attributes:
        regions: ``(B, S, R, F)`` tokens of the atlas regions at S scales, finest first.
        slices: ``(B, S, L, F)`` tokens of the slices: sagittal, coronal, axial, one after another,
            counted at the finest scale; zero where a slice holds no brain.
    """

    regions: Tensor
    slices: Tensor


def region_membership(labels: Tensor, regions: int, stride: int) -> tuple[Tensor, Tensor]:
    """Soft membership of coarse cells in regions: average-pooled one-hot labels.

    ``labels`` is ``(D, H, W)`` with 0 for no region and 1..R. Returns the flat indices ``(V,)`` of
    the cells with any label and the weights ``(R, V)``, each row summing to one; a row without any
    voxel is zero.
    """
    cells = [-(-size // stride) for size in labels.shape]
    d, h, w = torch.nonzero(labels, as_tuple=True)
    cell = ((d // stride) * cells[1] + h // stride) * cells[2] + w // stride
    occupied, column = torch.unique(cell, return_inverse=True)
    counts = torch.zeros(regions, len(occupied), dtype=torch.float64)
    counts.index_put_((labels[d, h, w] - 1, column), counts.new_ones(len(column)), accumulate=True)
    weights = counts / counts.sum(1, keepdim=True).clamp(min=1)
    return occupied, weights.to(torch.get_default_dtype())


class RegionPooling(nn.Module):
    """Weighted mean of a feature map inside every atlas region; holds constants only."""

    cells: Tensor
    weights: Tensor

    def __init__(self, labels: Tensor, regions: int, stride: int) -> None:
        super().__init__()
        cells, weights = region_membership(labels, regions, stride)
        self.register_buffer("cells", cells, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, D_s, H_s, W_s)`` to ``(B, R, C)``."""
        # Not index_select: it takes eight times as long along the last dimension.
        inside = x.flatten(2).gather(2, self.cells.expand(*x.shape[:2], -1))
        # Not einsum: its gradient of a lone scan comes with the channels last, and every layer
        # below it would then go through memory in two orders.
        return (inside @ self.weights.T).transpose(1, 2)


class SlicePooling(nn.Module):
    """Brain-weighted in-plane mean per slice of the three planes; holds constants only.

    Coarser scales are interpolated linearly to the slice count of the finest one, over slices that
    hold brain. ``stride`` and ``finest`` are in voxels of the input.
    """

    brain: Tensor
    interpolation: Tensor

    def __init__(self, labels: Tensor, stride: int, finest: int) -> None:
        super().__init__()
        brain = brain_fraction(labels, stride)
        self.register_buffer("brain", brain, persistent=False)
        fine = brain_fraction(labels, finest)
        blocks = []
        for axis in range(3):
            other = [a for a in range(3) if a != axis]
            coarse_mass, fine_mass = brain.sum(other), fine.sum(other)
            matrix = _linear_weights(len(fine_mass), len(coarse_mass), finest, stride)
            # The mean of a slice is its sum over its brain mass, so the mass divides the columns.
            matrix = matrix * (coarse_mass > 0) * (fine_mass > 0)[:, None]
            matrix = matrix / matrix.sum(1, keepdim=True).clamp(min=1e-12)
            blocks.append(matrix / coarse_mass.clamp(min=1e-12))
        self.register_buffer("interpolation", _block_diagonal(blocks), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, D_s, H_s, W_s)`` to ``(B, L, C)``."""
        weighted = x * self.brain
        in_x = weighted.sum(4)
        sums = torch.cat([in_x.sum(3), in_x.sum(2), weighted.sum((2, 3))], dim=2)
        return (sums @ self.interpolation.T).transpose(1, 2)  # see RegionPooling


def brain_fraction(labels: Tensor, stride: int) -> Tensor:
    """Share of every coarse cell that any region covers: ``(D_s, H_s, W_s)`` in [0, 1]."""
    mask = (labels > 0).to(torch.get_default_dtype())
    padding = [(-size) % stride for size in labels.shape]
    mask = functional.pad(mask, (0, padding[2], 0, padding[1], 0, padding[0]))
    return functional.avg_pool3d(mask[None, None], stride)[0, 0]


def _block_diagonal(blocks: Sequence[Tensor]) -> Tensor:
    return cast(Tensor, torch.block_diag(*blocks))  # type: ignore[no-untyped-call]


def plane_sizes(labels: Tensor, stride: int) -> tuple[int, int, int]:
    """Slices per plane (sagittal, coronal, axial) at one stride."""
    d, h, w = (-(-size // stride) for size in labels.shape)
    return d, h, w


def slice_overlap(labels: Tensor, regions: int, stride: int) -> Tensor:
    """``(L, R)`` share of each region that lies in each slice, rows scaled to unit length.

    A region counts by its share, not by its voxels, so that the hippocampus weighs as much in the
    slices that cut it as a lobe does in its own.
    """
    positions = torch.nonzero(labels, as_tuple=True)
    region = labels[positions] - 1
    planes = []
    for position, size in zip(positions, labels.shape, strict=True):
        slices = -(-size // stride)
        # Not one-hot labels: those of a 1 mm brain take 14 GB.
        cell = (position // stride) * regions + region
        planes.append(torch.bincount(cell, minlength=slices * regions).reshape(slices, regions))
    share = torch.cat(planes).double() / torch.bincount(region, minlength=regions)
    length = share.square().sum(1, keepdim=True).sqrt()
    return (share / length.clamp(min=1e-12)).to(torch.get_default_dtype())


def slice_brain(labels: Tensor, stride: int) -> Tensor:
    """``(L,)`` cells of brain in every slice of the three planes."""
    brain = brain_fraction(labels, stride)
    return torch.cat([brain.sum((1, 2)), brain.sum((0, 2)), brain.sum((0, 1))])


def _linear_weights(fine: int, coarse: int, fine_stride: int, coarse_stride: int) -> Tensor:
    """``(fine, coarse)`` linear interpolation between slice centres, constant beyond the ends."""
    position = (torch.arange(fine) + 0.5) * fine_stride / coarse_stride - 0.5
    position = position.clamp(0, coarse - 1)
    distance = (position[:, None] - torch.arange(coarse)).abs()
    return (1 - distance).clamp(min=0).to(torch.get_default_dtype())
