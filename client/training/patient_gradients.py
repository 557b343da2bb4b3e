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
from client.training.precision import Forward, in_precision
from client.training.site_model import SiteModel
from shared_model.smrnet.tokens import Tokens

_MAPPED_SCANS = 64
_MAPPED_NUMBERS = 1 << 21  # scans times parameters in memory at once; 16 MiB in float64
_WORTH_MAPPING = 4  # below so many scans at once the loop is as fast


class PatientGradients(Protocol):
    """A way to compute the gradient of every patient's loss: the mean over the patient's scans.

    Under augmentation the mean is over scans and views (client/training/augmentation).
    """

    def __call__(self, patients: Sequence[PatientExamples]) -> Iterator[Tensor]:
        """``(n, P)`` gradients of the patients in order, some at a time.

        What is yielded is valid until the next is asked for.
        """
        ...


def patient_gradients(
    site_model: SiteModel, names: Sequence[str], flat: FlatParameters
) -> PatientGradients:
    """The faster way for a model: mapped for cached tokens and few parameters, else a loop."""
    if site_model.uses_tokens and len(flat.gradient) * _WORTH_MAPPING <= _MAPPED_NUMBERS:
        return MappedGradients(site_model.model, names, len(flat.gradient))
    return LoopGradients(in_precision(site_model), flat)


class LoopGradients:
    """One ordinary backward per scan: any architecture, the memory of one scan."""

    def __init__(self, forward: Forward, flat: FlatParameters) -> None:
        self._forward = forward
        self._flat = flat

    def __call__(self, patients: Sequence[PatientExamples]) -> Iterator[Tensor]:
        """``(1, P)`` per patient, in the dtype of the model."""
        for patient in patients:
            gradient = self._flat.gradient.zero_()
            for inputs, labels in patient.chunks():
                loss = cross_entropy(self._forward(inputs), labels, reduction="sum")
                torch.autograd.backward(loss / len(patient.labels))
            yield gradient[None]


class MappedGradients:
    """``vmap(grad)`` over the scans of several patients: six times faster where a scan is small.

    Every scan is a computation of its own by construction, so nothing can couple patients here.

    Args:
        model: returns an object with ``logits``; a :class:`shared_model.registry.TokenModel` where
            the patients' inputs are tokens.
        names: the parameters that train, in the order of the flat vector.
        size: how many numbers these are.
        scans: mapped at once; none: as many as fit in memory when inputs are tokens.
    """

    def __init__(
        self, model: nn.Module, names: Sequence[str], size: int, scans: int | None = None
    ) -> None:
        self._reader = _Reader(model)
        self._names = tuple(names)
        self._scans = scans or min(_MAPPED_SCANS, max(1, _MAPPED_NUMBERS // size))
        self._gradients = vmap(grad(self._loss), in_dims=(None, 0, 0), randomness="different")

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
        parts = [torch.cat(part) for part in zip(*map(_parts, patients), strict=True)]
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
            by_name = self._gradients(values, tuple(part[rows] for part in parts), labels[rows])
            scans = torch.cat([value.flatten(1) for value in by_name.values()], dim=1).double()
            means.index_add_(0, owner[rows], scans / counts[owner[rows], None])
        return means

    def _loss(self, values: dict[str, Tensor], parts: tuple[Tensor, ...], label: Tensor) -> Tensor:
        logits = functional_call(self._reader, values, tuple(part[None] for part in parts))
        return cross_entropy(logits, label[None])


def _parts(patient: PatientExamples) -> tuple[Tensor, ...]:
    """What a patient's inputs are made of, scans first."""
    if isinstance(patient.inputs, Tokens):
        return patient.inputs.regions, patient.inputs.slices
    return (torch.cat([cast(Tensor, inputs) for inputs, _ in patient.chunks()]),)


class _Reader(nn.Module):
    """A model as a function of tensors: its volumes, or regions and slices of its tokens."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *parts: Tensor) -> Tensor:
        """``(B, C)`` logits."""
        if len(parts) == 1:
            return cast(Tensor, self.model(parts[0]).logits)
        reason = cast(Callable[[Tokens], object], self.model.reason)
        return cast(Tensor, reason(Tokens(*parts)).logits)  # type: ignore[attr-defined]
