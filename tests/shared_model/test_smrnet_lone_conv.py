"""The slab-wise convolution of a lone scan against the plain one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared_model.smrnet.lone_conv import convolve


@pytest.mark.parametrize("depth", [2, 3, 10, 11])
@pytest.mark.parametrize("stride", [1, 2])
def test_output_and_gradients_are_those_of_the_plain_convolution(depth: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(4, 6, 3, stride=stride, padding=1, bias=False)
    x = torch.randn(1, 4, depth, 7, 9, requires_grad=True)
    weights = torch.randn(conv(x).shape)

    def gradients(y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad((y * weights).sum(), [x, conv.weight])

    slabs, plain = convolve(conv, x), conv(x)
    torch.testing.assert_close(slabs, plain, rtol=1e-5, atol=1e-5)
    for ours, truth in zip(gradients(slabs), gradients(plain), strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-4)


def test_a_lone_scan_gives_the_same_as_in_a_batch() -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(2, 4, 3, padding=1, bias=False)
    batch = torch.randn(3, 2, 8, 8, 8)
    torch.testing.assert_close(convolve(conv, batch[1:2]), convolve(conv, batch)[1:2])


def test_float64_is_left_as_it_is() -> None:
    conv = nn.Conv3d(2, 4, 3, padding=1, bias=False).double()
    x = torch.randn(1, 2, 8, 8, 8, dtype=torch.float64)
    assert torch.equal(convolve(conv, x), conv(x))
