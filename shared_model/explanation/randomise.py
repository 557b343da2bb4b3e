"""Models whose trained weights were shuffled: what an explanation must not survive."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, eq=False)
class Shuffled:
    """A copy of a model with shuffled weights; ``parts`` names them, topmost first."""

    parts: tuple[str, ...]
    model: nn.Module


def parts_from_top(model: nn.Module, depth: int = 2) -> tuple[str, ...]:
    """Beginnings of parameter names, ``depth`` words each, the last built first.

    A part without two different values in any of its parameters cannot be shuffled and is left out.
    """
    found: dict[str, bool] = {}
    for name, parameter in model.named_parameters():
        part = ".".join(name.split(".")[:depth])
        varies = bool(parameter.numel() > 1 and parameter.detach().std() > 0)
        found[part] = found.get(part, False) or varies
    return tuple(part for part in reversed(found) if found[part])


def cascade(model: nn.Module, parts: Sequence[str], seed: int) -> Iterator[Shuffled]:
    """Shuffle one part more at a time, from the top (Adebayo et al. 2018, cascading)."""
    for count in range(1, len(parts) + 1):
        yield shuffled(model, parts[:count], seed)


def independently(model: nn.Module, parts: Sequence[str], seed: int) -> Iterator[Shuffled]:
    """Shuffle one part alone at a time (Adebayo et al. 2018, independent)."""
    for part in parts:
        yield shuffled(model, (part,), seed)


@torch.no_grad()
def shuffled(model: nn.Module, parts: Sequence[str], seed: int) -> Shuffled:
    """A copy in which every parameter of ``parts`` has its own values in another order.

    Each tensor keeps its distribution, so that nothing but what was learnt is lost: a fresh
    initialisation would make the parts that start at zero explain nothing, which proves nothing.
    The same seed shuffles a part alike whatever else is shuffled.
    """
    twin = copy.deepcopy(model)
    for number, (name, parameter) in enumerate(twin.named_parameters()):
        if not name.startswith(tuple(f"{part}." for part in parts)) and name not in parts:
            continue
        generator = torch.Generator().manual_seed(seed * 100_003 + number)
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
    return Shuffled(tuple(parts), twin)
