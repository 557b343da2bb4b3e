"""How sure a prediction is, and how well it bears that the head lies one voxel off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from client.training.site_model import SiteModel
from shared_model.batch import Batch, Inputs
from shared_model.explanation.relevance import with_volumes
from shared_model.smrnet.tokens import Tokens

_SHIFTS = tuple((axis, step) for axis in range(3) for step in (-1, 1))


@dataclass(frozen=True)
class Certainty:
    """A prediction with what speaks for and against it.

    Attributes:
        probabilities: of the classes, as the model gives them; not calibrated for this hospital.
        entropy: of them, over its largest value: 0 is sure, 1 says nothing.
        lowest, highest: ``(C,)`` over six copies of the scan shifted by one voxel each.
        deviation: log root mean square of the tokens, for models that have them: how far the scan
            is from the public reference, whatever is wrong with it.
    """

    probabilities: tuple[float, ...]
    entropy: float
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    deviation: float | None


@torch.no_grad()
def certainty(model: SiteModel, inputs: Inputs) -> Certainty:
    """Ask the model about one scan and about its six shifted copies."""
    found = _probabilities(model, inputs)
    volume = inputs if isinstance(inputs, Tensor) else inputs.tensors()["volume"]
    shifted = np.stack(
        [
            _probabilities(model, with_volumes(inputs, _shift(volume, axis, step)))
            for axis, step in _SHIFTS
        ]
    )
    entropy = float(-(found * np.log(np.maximum(found, 1e-12))).sum() / np.log(len(found)))
    return Certainty(
        tuple(map(float, found)),
        entropy,
        tuple(map(float, shifted.min(0))),
        tuple(map(float, shifted.max(0))),
        _deviation(model.tokenise(inputs)) if model.uses_tokens else None,
    )


def _probabilities(model: SiteModel, inputs: Inputs) -> np.ndarray:
    return np.asarray(model.logits(inputs).double().softmax(1)[0].cpu().numpy())


def _shift(volume: Tensor, axis: int, step: int) -> Tensor:
    moved = volume.roll(step, dims=axis + 2)
    edge = [slice(None)] * 5
    edge[axis + 2] = slice(0, 1) if step > 0 else slice(-1, None)
    moved[tuple(edge)] = volume.amin()
    return moved


def _deviation(tokens: Batch) -> float | None:
    if not isinstance(tokens, Tokens):
        return None
    both = torch.cat([tokens.regions.flatten(1), tokens.slices.flatten(1)], 1).double()
    return float(0.5 * both.square().mean().clamp(min=1e-12).log())
