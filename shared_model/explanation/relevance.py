"""What an explanation method returns for one scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from shared_model.batch import Batch, Inputs
from shared_model.models.entry import TokenModel

Map = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Relevance:
    """How much each voxel drove the output; a magnitude, not a direction.

    Attributes:
        method: name in :data:`shared_model.explanation.methods.METHODS`.
        voxels: ``(D, H, W)`` float32 on the model grid, at least 0, 0 where nothing is claimed.
        regions: ``(R,)`` signed contribution of each atlas region to the class contrast, in
            logits, where the method gives one.
    """

    method: str
    voxels: Map
    regions: Floats | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """One scan whose prediction is to be explained.

    Attributes:
        model: a classifier; it is neither changed nor left with hooks.
        inputs: of one scan: ``(1, 1, D, H, W)``, or a batch of one with a field ``volume``. Methods
            that read the output alone take the tokens of a token model as well.
        target: class whose logit, minus the mean of the others, is explained.
        labels: ``(D, H, W)`` atlas labels on the model grid, 0 outside, 1..R inside.
        baseline: ``(D, H, W)`` volume of a public brain in which nothing is to be found.
    """

    model: nn.Module
    inputs: Inputs
    target: int
    labels: npt.NDArray[np.int16]
    baseline: Map

    @property
    def regions(self) -> int:
        """R, the number of atlas regions."""
        return int(self.labels.max())

    @property
    def volume(self) -> Tensor:
        """``(1, 1, D, H, W)`` the scan itself."""
        return self.inputs if isinstance(self.inputs, Tensor) else self.inputs.tensors()["volume"]

    def score(self, volume: Tensor, model: nn.Module | None = None) -> Tensor:
        """``(B,)`` contrast of the target class when the scan looked like ``(B, 1, D, H, W)``."""
        made = (self.model if model is None else model)(with_volumes(self.inputs, volume))
        return contrast(made.logits, self.target)


def contrast(logits: Tensor, target: int) -> Tensor:
    """``(B,)`` logit of a class minus the mean of the others: what a softmax compares.

    ``logits`` is ``(B, C)``. A common shift of all logits changes no probability, and nothing here.
    """
    others = (logits.sum(-1) - logits[..., target]) / (logits.shape[-1] - 1)
    return logits[..., target] - others


def with_volumes(inputs: Inputs, volume: Tensor) -> Inputs:
    """One scan's inputs with other volumes ``(B, 1, D, H, W)``; all else is repeated B times."""
    if isinstance(inputs, Batch):
        repeated = {
            name: value.expand(len(volume), *value.shape[1:])
            for name, value in inputs.tensors().items()
        }
        return type(inputs)(**{**repeated, "volume": volume})
    return volume


def magnitude(values: Tensor) -> Map:
    """Absolute values of ``(D, H, W)`` as float32; outside the brain they are kept to be seen."""
    return values.detach().abs().to("cpu", torch.float32).numpy()


def output_of(case: Case) -> object:
    """The model's output for the scan, without a graph."""
    model, inputs = case.model, case.inputs
    with torch.no_grad():
        if isinstance(model, TokenModel) and isinstance(inputs, model.tokens):
            return model.reason(inputs)
        return model(inputs)
