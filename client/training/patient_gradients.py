"""Gradients of single patients: a loop of backward passes, or all of a batch of tokens at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.site_model import SiteModel
from shared_model.smrnet.tokens import Tokens

Forward = Callable[[Tokens | Tensor], Tensor]

_MAPPED_SCANS = 32
_MAPPED_NUMBERS = 1 << 21  # scans times parameters in memory at once; 16 MiB in float64
_WORTH_MAPPING = 4  # below so many scans at once the loop is as fast


class PatientGradients(Protocol):
    """A way to compute the gradient of every patient's loss: the mean over the patient's scans.

    Under augmentation the mean is over scans and views (client/training/augmentation).
    """

    def __call__(self, patients: Sequence[PatientExamples]) -> Iterator[Tensor]:
        """``(n, P)`` float64 gradients of the patients in order, some at a time."""
        ...


def patient_gradients(
    site_model: SiteModel, names: Sequence[str], flat: FlatParameters
) -> PatientGradients:
    """The faster way for a model: mapped for cached tokens and few parameters, else a loop."""
    if site_model.uses_tokens and len(flat.gradient) * _WORTH_MAPPING <= _MAPPED_NUMBERS:
        return MappedGradients(site_model.model, names, len(flat.gradient))
    return LoopGradients(site_model.logits, flat)


class LoopGradients:
    """One ordinary backward per scan: any architecture, the memory of one scan."""

    def __init__(self, forward: Forward, flat: FlatParameters) -> None:
        self._forward = forward
        self._flat = flat

    def __call__(self, patients: Sequence[PatientExamples]) -> Iterator[Tensor]:
        """``(1, P)`` float64 per patient."""
        for patient in patients:
            gradient = self._flat.gradient.zero_()
            for inputs, labels in patient.chunks():
                loss = cross_entropy(self._forward(inputs), labels, reduction="sum")
                torch.autograd.backward(loss / len(patient.labels))
            yield gradient.double()[None]


class MappedGradients:
    """``vmap(grad)`` over the scans of several patients: three times faster where a scan is small.

    Every scan is a computation of its own by construction, so nothing can couple patients here.

    Args:
        model: a :class:`shared_model.registry.TokenModel`.
        names: the parameters that train, in the order of the flat vector.
        size: how many numbers these are.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], size: int) -> None:
        self._reader = _TokenReader(model)
        self._names = tuple(names)
        self._scans = min(_MAPPED_SCANS, _MAPPED_NUMBERS // size)
        self._gradients = vmap(grad(self._loss), in_dims=(None, 0, 0, 0), randomness="different")

    def __call__(self, patients: Sequence[PatientExamples]) -> Iterator[Tensor]:
        """``(n, P)`` float64 for as many whole patients as fit."""
        waiting: list[PatientExamples] = []
        for patient in patients:
            waiting.append(patient)
            if sum(len(p.labels) for p in waiting) >= self._scans:
                yield self._of(waiting)
                waiting = []
        if waiting:
            yield self._of(waiting)

    def _of(self, patients: Sequence[PatientExamples]) -> Tensor:
        tokens = Tokens.cat([cast(Tokens, patient.inputs) for patient in patients])
        labels = torch.cat([patient.labels for patient in patients])
        owned = dict(self._reader.model.named_parameters())
        values = {f"model.{name}": owned[name].detach() for name in self._names}
        counts = torch.tensor([len(p.labels) for p in patients], device=labels.device)
        owner = torch.repeat_interleave(torch.arange(len(patients), device=labels.device), counts)
        # The patient's scans are averaged before the one clip.
        size = sum(value.numel() for value in values.values())
        means = torch.zeros(len(patients), size, dtype=torch.float64, device=labels.device)
        # A patient with many scans or augmented views does not fit in memory at once.
        for rows in torch.arange(len(labels)).chunk(-(-len(labels) // (2 * self._scans))):
            part = tokens[rows]
            by_name = self._gradients(values, part.regions, part.slices, labels[rows])
            scans = torch.cat([value.flatten(1) for value in by_name.values()], dim=1).double()
            means.index_add_(0, owner[rows], scans / counts[owner[rows], None])
        return means

    def _loss(
        self, values: dict[str, Tensor], regions: Tensor, slices: Tensor, label: Tensor
    ) -> Tensor:
        logits = functional_call(self._reader, values, (Tokens(regions[None], slices[None]),))
        return cross_entropy(logits, label[None])


class _TokenReader(nn.Module):
    """A token model whose forward pass begins at the tokens."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tokens) -> Tensor:
        """``(B, C)`` logits."""
        reason = cast(Callable[[Tokens], object], self.model.reason)
        return cast(Tensor, reason(tokens).logits)  # type: ignore[attr-defined]
