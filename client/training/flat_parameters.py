"""The trained parameters as one vector: float64 master values, and the gradient autograd fills."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FlatParameters:
    """Flat views of the parameters that train, so that one patient costs a handful of tensor calls.

    Attributes:
        master: ``(P,)`` float64 parameter that the optimiser steps; :meth:`publish` rounds it into
            the model.
        gradient: ``(P,)`` buffer in the model's dtype that backward passes accumulate into.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = tuple(parameters)
        with torch.no_grad():
            flat = torch.cat([p.reshape(-1) for p in self._parameters])
        self.master = nn.Parameter(flat.double())
        self.gradient = torch.zeros_like(flat)
        for parameter, part in zip(self._parameters, self._split(self.gradient), strict=True):
            parameter.grad = part

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the master values into the model, rounded to its dtype."""
        for parameter, part in zip(self._parameters, self._split(self.master), strict=True):
            parameter.copy_(part)

    def close(self) -> None:
        """Take the gradient views away from the model."""
        for parameter in self._parameters:
            parameter.grad = None

    def _split(self, flat: Tensor) -> list[Tensor]:
        parts = torch.split(flat, [p.numel() for p in self._parameters])
        return [part.view_as(p) for part, p in zip(parts, self._parameters, strict=True)]
