"""A small box-shaped brain with box-shaped regions, for the SMR-Net tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from shared_model.smrnet.config import SMRNetConfig
from shared_model.smrnet.model import SMRNet
from shared_model.smrnet.tokens import Tokens

SHAPE = (32, 40, 32)
BLOCK = 8


def box_atlas(shape: tuple[int, int, int] = SHAPE, margin: int = 8) -> tuple[Tensor, Tensor]:
    """Labels of 8-voxel blocks inside a margin, and their face-contact adjacency."""
    counts = [(size - 2 * margin) // BLOCK for size in shape]
    ids = torch.arange(1, counts[0] * counts[1] * counts[2] + 1).reshape(counts)
    labels = torch.zeros(shape, dtype=torch.long)
    inner = ids
    for axis in range(3):
        inner = inner.repeat_interleave(BLOCK, axis)
    labels[tuple(slice(margin, margin + BLOCK * count) for count in counts)] = inner
    adjacency = torch.zeros(ids.numel(), ids.numel())
    for axis in range(3):
        a = ids.narrow(axis, 0, counts[axis] - 1).flatten() - 1
        b = ids.narrow(axis, 1, counts[axis] - 1).flatten() - 1
        adjacency[a, b] = adjacency[b, a] = 1.0
    return labels, adjacency


def small_smrnet(seed: int = 0, *, trained: bool = True, **options: object) -> SMRNet:
    """A width-4 network on the box atlas; ``trained``: its evidence has left its start at zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = SMRNetConfig.model_validate({"width": 4, "attention_features": 4, **options})
        model = SMRNet(config, *box_atlas())
        if trained:
            with torch.no_grad():
                for zero in (model.reasoner.head.weight, model.reasoner.readout.common):
                    zero.normal_(std=0.1)
        return model


def scans(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random volumes ``(count, 1, 32, 40, 32)``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, *SHAPE, generator=generator, dtype=torch.float64).to(dtype)


def train_reasoner(model: SMRNet, tokens: Tokens, labels: Tensor, steps: int) -> None:
    """Plain SGD on everything behind the frozen encoder, but for what is a site's own."""
    private = [
        p for n, p in model.named_parameters() if n.startswith("reasoner.") and "site_" not in n
    ]
    optimiser = torch.optim.SGD(private, lr=0.2)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model.reason(tokens).logits, labels).backward()
        optimiser.step()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Build constants in another precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
