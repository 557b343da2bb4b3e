"""The attacker's model: a canary's gradient is a direction that the attacker chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from client.training.examples import PatientExamples
from shared_model.smrnet.tokens import Tokens

#: How often longer than the clipping norm a canary's gradient is before the engine clips it.
EXCESS = 30.0
CLASSES = 3
FEATURES = 4

#: How the engine computes gradients: a loop, mapped over cached tokens, or a copy for each scan.
Way = Literal["loop", "mapped", "own"]


@dataclass(frozen=True)
class Logits:
    """``(B, C)``."""

    logits: Tensor


class CanaryModel(nn.Module):
    """Softmax regression for ordinary patients, and ``(m, P)`` directions for the canaries.

    The differential-privacy guarantee holds for every model, so the attacker may choose it. An
    input is ``(B, 1 + FEATURES)``: the canary's number (0: an ordinary patient), then features. The
    logits of a canary are zero, and their gradient is its direction: engine, clipping and loss are
    used as they are. ``canary`` is trained by canaries only, so ordinary patients do not blur it.
    """

    def __init__(self, directions: Tensor, clipping_norm: float) -> None:
        super().__init__()
        self.canary = nn.Parameter(torch.zeros(directions.shape[1]))
        self.plain = nn.Parameter(torch.zeros(CLASSES, FEATURES))
        # Cross-entropy at equal logits has gradient 1/3 in the first of three, for another label.
        pushed = torch.cat([torch.zeros(1, directions.shape[1]), directions])
        self.register_buffer(
            "pushes", pushed.float() * (CLASSES * EXCESS * clipping_norm), persistent=False
        )
        self.pushes: Tensor

    def forward(self, x: Tensor) -> Logits:
        """``(B, 1 + FEATURES)`` to logits ``(B, 3)``."""
        number = x[:, 0].long()
        # Zero in value, so that no step changes what the next gradient will be. Products and sums,
        # so that every scan may bring parameters of its own, (B, P) and (B, 3, FEATURES).
        push = (self.pushes[number] * (self.canary - self.canary.detach())).sum(-1)
        ordinary = (number == 0).to(x.dtype)[:, None] * (x[:, None, 1:] * self.plain).sum(-1)
        return Logits(ordinary + torch.stack([push, push * 0, push * 0], dim=1))


class CanaryTokenModel(CanaryModel):
    """The same from cached tokens, which the engine takes in batches (``vmap``)."""

    parameters_per_scan = False
    tokens = Tokens
    above_tokens = ("",)

    def tokenise(self, x: Tensor) -> Tokens:
        """Inputs ``(B, 1 + FEATURES)`` as the tokens of one region."""
        return Tokens(x[:, None, None], x[:, None, None, :1])

    def reason(self, tokens: Tokens) -> Logits:
        """Logits ``(B, 3)``."""
        return self.forward(tokens.regions[:, 0, 0])


class CanaryOwnCopyModel(CanaryTokenModel):
    """The same, and every scan may have its own copy of the parameters, as in SMR-Net."""

    parameters_per_scan = True


#: The attacker's model by the way in which the engine computes its gradients.
MODELS: dict[Way, type[CanaryModel]] = {
    "loop": CanaryModel,
    "mapped": CanaryTokenModel,
    "own": CanaryOwnCopyModel,
}


def orthonormal_directions(count: int, size: int, seed: int) -> Tensor:
    """``(count, size)`` random directions at right angles, so that canaries do not hide each other.

    Raises ValueError for more directions than dimensions.
    """
    if count > size:
        raise ValueError(f"{count} directions at right angles need more than {size} dimensions")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(size, count, generator=generator, dtype=torch.float64)
    square: Tensor = torch.linalg.qr(drawn)[0]
    return square.T.contiguous()


def canary_patients(numbers: Sequence[int], scans: int, tokens: bool) -> list[PatientExamples]:
    """Canaries by number (from 1), each with ``scans`` scans of the same direction."""
    rows = np.zeros((len(numbers), 1 + FEATURES), np.float32)
    rows[:, 0] = numbers
    return [
        _patient(f"canary-{row[0]:.0f}", torch.from_numpy(row).expand(scans, -1), 1, tokens)
        for row in rows
    ]


def ordinary_patients(count: int, seed: int, tokens: bool) -> list[PatientExamples]:
    """Patients whom softmax regression can learn something from."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, FEATURES, generator=generator)
    rows = torch.cat([torch.zeros(count, 1), features], dim=1)
    return [
        _patient(f"ordinary-{i}", row[None], int(row[1] > 0), tokens) for i, row in enumerate(rows)
    ]


def poisoned_patient(tokens: bool) -> PatientExamples:
    """A patient whose scan, and so whose gradient, is not a number."""
    return _patient("poison", torch.tensor([[0.0] + [float("nan")] * FEATURES]), 1, tokens)


def _patient(name: str, rows: Tensor, label: int, tokens: bool) -> PatientExamples:
    inputs = Tokens(rows[:, None, None], rows[:, None, None, :1]) if tokens else rows.contiguous()
    return PatientExamples(name, inputs, torch.full((len(rows),), label))
