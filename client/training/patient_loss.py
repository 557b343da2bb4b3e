"""The loss that local training minimises: of each scan on its own, so that a clip bounds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from shared_model.models.entry import class_losses


class ModelOutput(Protocol):
    """What a model says about B scans; SMR-Net's also has an ``embedding (B, E)``."""

    @property
    def logits(self) -> Tensor:
        """``(B, C)``, or ``(B, C, D, H, W)`` of a segmentation."""
        ...


class Alignment(Protocol):
    """A term per scan from released values and that scan's own output (layer B)."""

    def __call__(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """``(B,)`` from ``(B, E)`` and ``(B,)``."""
        ...


@dataclass(frozen=True)
class PatientLoss:
    """The model's loss, plus the ``alignment`` term where the plan switches layer B on.

    Row i depends on scan i alone, and on public or released values: a loss that looked at two
    patients at once (batch moments, CORAL, MMD) would void the bound on one patient's gradient.
    """

    alignment: Alignment | None = None
    task: Callable[[Any, Tensor], Tensor] = class_losses
    #: Public weight of each class, before the clip; empty: all count the same.
    class_weights: tuple[float, ...] = ()

    def __call__(self, output: ModelOutput, labels: Tensor) -> Tensor:
        """``(B,)`` losses of scans with targets ``(B, ...)``; also under ``vmap`` with B = 1."""
        loss = self.task(output, labels)
        if self.class_weights:
            loss = loss * loss.new_tensor(self.class_weights)[labels]
        if self.alignment is None:
            return loss
        return loss + self.alignment(output.embedding, labels)  # type: ignore[attr-defined]


#: Of classification, without layer B.
CROSS_ENTROPY = PatientLoss()
