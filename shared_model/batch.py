"""What a model sees of several scans, when that is more than one volume each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Named tensors of B scans; every field of a subclass is a ``Tensor`` with scans first.

    A subclass is frozen too. Where a model's inputs are a batch, its fields say what a hospital has
    to bring; see :mod:`shared_model.inputs` for the names it knows.
    """

    def tensors(self) -> dict[str, Tensor]:
        """The fields by name, in their order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __len__(self) -> int:
        return len(next(iter(self.tensors().values())))

    def __getitem__(self, rows: slice | Tensor | list[int]) -> Self:
        """Select scans, keeping the batch dimension."""
        return type(self)(**{name: value[rows] for name, value in self.tensors().items()})

    def detach(self) -> Self:
        """Cut the tensors from the graph that computed them."""
        return type(self)(**{name: value.detach() for name, value in self.tensors().items()})

    def to(self, target: torch.device | torch.dtype | str) -> Self:
        """Move to a device or convert to a dtype."""
        return type(self)(**{name: value.to(target) for name, value in self.tensors().items()})

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Join scans."""
        return cls(
            **{
                field.name: torch.cat([getattr(part, field.name) for part in parts])
                for field in fields(cls)
            }
        )


#: Model inputs: volumes ``(B, 1, D, H, W)``, or a batch of several named tensors.
Inputs = Tensor | Batch


def join(parts: Sequence[Inputs]) -> Inputs:
    """Join inputs of one kind along the scans."""
    first = parts[0]
    if isinstance(first, Batch):
        return first.cat(parts)  # type: ignore[arg-type]
    return torch.cat(list(parts))  # type: ignore[arg-type]
