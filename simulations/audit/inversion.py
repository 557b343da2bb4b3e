"""Gradient inversion: the image whose gradient points where the update points (Geiping 2020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class InversionSettings:
    """The attack's own choices.

    Attributes:
        steps: of Adam on the signs of the gradient, as in the paper.
        total_variation: weight of the mean absolute difference of neighbouring voxels.
        restarts: from other noise; the best objective wins, which needs no truth.
    """

    steps: int = 400
    learning_rate: float = 0.1
    total_variation: float = 0.01
    restarts: int = 1
    seed: int = 0


def invert(
    logits: Logits,
    parameters: Sequence[nn.Parameter],
    observed: Sequence[Tensor],
    label: int,
    inside: Tensor,
    settings: InversionSettings,
    progress: Callable[[int], None] | None = None,
) -> tuple[Tensor, float]:
    """Reconstruct one standardised volume ``(D, H, W)`` from the gradient it caused.

    The attacker has the model and its parameters, the update divided by the public learning rate,
    the label, and what is public about prepared volumes: the brain mask ``inside``, zero outside
    it, mean 0 and standard deviation 1 in it.

    Minimises one minus the cosine between the observed and the candidate's gradient, plus total
    variation. Returns the volume and the cosine that it reached.
    """
    target = torch.cat([part.reshape(-1) for part in observed])
    target = target / target.norm().clamp(min=1e-30)
    labels = torch.tensor([label])
    best, best_loss, best_cosine = torch.zeros(inside.shape), float("inf"), 0.0
    generator = torch.Generator().manual_seed(settings.seed)
    for restart in range(settings.restarts):
        x = torch.randn(inside.shape, generator=generator).requires_grad_()
        optimiser = torch.optim.Adam([x], lr=settings.learning_rate)
        milestones = [round(settings.steps * part) for part in (0.375, 0.625, 0.875)]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, gamma=0.1)
        for step in range(settings.steps):
            optimiser.zero_grad()
            candidate = standardised(x, inside)
            loss = cross_entropy(logits(candidate[None, None]), labels)
            found = torch.autograd.grad(loss, list(parameters), create_graph=True)
            flat = torch.cat([part.reshape(-1) for part in found])
            cosine = flat @ target / flat.norm().clamp(min=1e-30)
            objective = 1 - cosine + settings.total_variation * total_variation(candidate)
            (gradient,) = torch.autograd.grad(objective, x)
            x.grad = gradient.sign()
            optimiser.step()
            schedule.step()
            if progress is not None:
                progress(restart * settings.steps + step + 1)
        if objective.item() < best_loss:
            best, best_loss = candidate.detach(), objective.item()
            best_cosine = cosine.item()
    return best, best_cosine


def standardised(volume: Tensor, inside: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 where ``inside``, zero elsewhere."""
    values = volume[inside]
    return torch.where(inside, (volume - values.mean()) / values.std(), torch.zeros(()))


def total_variation(volume: Tensor) -> Tensor:
    """Mean absolute difference of neighbours along the three axes of ``(D, H, W)``."""
    return sum(
        (volume.diff(dim=axis).abs().mean() for axis in range(3)), start=volume.new_zeros(())
    )
