"""A 3x3x3 convolution of one scan at the speed of a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# PyTorch 2.13 (ATen/native/Convolution.cpp, use_mkldnn) takes oneDNN for a lone scan only from so
# many channels x depth x height on; below, its own kernel needs up to seven times as long.
_ONEDNN_FROM = 20480


def convolve(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """``conv(x)`` for ``(B, C, D, H, W)``; a lone scan on a CPU goes through as a batch of slabs.

    Differential privacy and volumes in memory one by one make a lone scan the usual case. Cut in
    two along D, with one plane of overlap, it gives the same sums in another order.

    Args:
        conv: kernel 3, padding 1, no bias; stride 1, otherwise it is called as it is.
        x: input.
    """
    depth = x.shape[2]
    small = x.shape[0] == 1 and x.shape[1] * depth * x.shape[3] <= _ONEDNN_FROM
    plain = conv.stride[0] != 1 or x.device.type != "cpu" or x.dtype != torch.float32
    onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if plain or not small or depth < 2 or not onednn:
        out: Tensor = conv(x)
        return out
    half = (depth + 1) // 2
    padded = functional.pad(x, (0, 0, 0, 0, 1, 1))
    slabs = torch.cat([padded[:, :, : half + 2], padded[:, :, depth - half :]])
    first, second = functional.conv3d(slabs, conv.weight, padding=(0, 1, 1)).chunk(2)
    # An odd depth makes the slabs overlap by a plane of the result.
    return torch.cat([first, second[:, :, 2 * half - depth :]], dim=2)
