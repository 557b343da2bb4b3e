"""A 3x3x3 convolution of one scan at the speed of a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# PyTorch 2.13 (ATen/native/Convolution.cpp, use_mkldnn) takes oneDNN for a lone scan only from so
# many channels x depth x height on; below, its own kernel needs up to seven times as long.
_ONEDNN_FROM = 20480


def convolve(conv: nn.Conv3d, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """``conv(x)`` for ``(B, C, D, H, W)``; a lone scan on a CPU goes through as a batch of slabs.

    Differential privacy and volumes in memory one by one make a lone scan the usual case. Cut in
    two along D, with a plane of overlap, it gives the same sums in another order.

    Args:
        conv: kernel 3, padding 1, no bias, the same stride along every axis.
        x: input.
        weight: taken instead of ``conv.weight``, of the same shape.
    """
    stride = conv.stride[0]
    planes = -(-x.shape[2] // stride)
    small = x.shape[0] == 1 and x.shape[1] * x.shape[2] * x.shape[3] <= _ONEDNN_FROM
    plain = x.device.type != "cpu" or x.dtype != torch.float32
    onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if plain or not small or planes < 2 or not onednn:
        if weight is None:
            out: Tensor = conv(x)  # the module, so that hooks see it
            return out
        return functional.conv3d(x, weight, stride=conv.stride, padding=1)
    half = (planes + 1) // 2
    padded = functional.pad(x, (0, 0, 0, 0, 1, 1))
    depth, start = stride * (half - 1) + 3, stride * (planes - half)
    slabs = torch.cat([padded[:, :, :depth], padded[:, :, start : start + depth]])
    weight = conv.weight if weight is None else weight
    whole = functional.conv3d(slabs, weight, stride=conv.stride, padding=(0, 1, 1))
    first, second = whole.chunk(2)
    # An odd number of planes makes the slabs overlap by one of the result.
    return torch.cat([first, second[:, :, 2 * half - planes :]], dim=2)
