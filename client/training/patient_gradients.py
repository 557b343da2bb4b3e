"""Gradients of single patients: a loop of backward passes, or all of a batch of tokens at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.patient_loss import CROSS_ENTROPY, ModelOutput, PatientLoss
from client.training.precision import Forward, in_precision
from client.training.site_model import SiteModel
from shared_model.batch import Batch
from shared_model.models.entry import TokenModel

_BATCHED_SCANS = 64
_BATCHED_NUMBERS = 1 << 21  # scans times parameters in memory at once; 16 MiB in float64
_WORTH_A_BATCH = 4  # below so many scans at once the loop is as fast

_Values = dict[str, Tensor]


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
    site_model: SiteModel,
    names: Sequence[str],
    flat: FlatParameters,
    loss: PatientLoss = CROSS_ENTROPY,
) -> PatientGradients:
    """The faster way for a model: in batches for cached tokens and few parameters, else a loop."""
    size = len(flat.gradient)
    if site_model.uses_tokens and size * _WORTH_A_BATCH <= _BATCHED_NUMBERS:
        own = getattr(site_model.model, "parameters_per_scan", False)
        way = OwnCopyGradients if own else MappedGradients
        return way(site_model.model, names, size, loss=loss)
    return LoopGradients(in_precision(site_model), flat, loss)


class LoopGradients:
    """One ordinary backward per scan: any architecture, the memory of one scan."""

    def __init__(
        self, forward: Forward, flat: FlatParameters, loss: PatientLoss = CROSS_ENTROPY
    ) -> None:
        self._forward = forward
        self._flat = flat
        self._scan_losses = loss

    def __call__(self, patients: Sequence[PatientExamples]) -> Iterator[Tensor]:
        """``(1, P)`` per patient, in the dtype of the model."""
        for patient in patients:
            gradient = self._flat.gradient.zero_()
            for inputs, labels in patient.chunks():
                loss = self._scan_losses(self._forward(inputs), labels).sum()
                torch.autograd.backward(loss / len(patient.labels))
            yield gradient[None]


class BatchedGradients(ABC):
    """Gradients of all scans of several patients at once, averaged over each patient's scans.

    Args:
        model: returns an object with ``logits``; a
            :class:`shared_model.models.entry.TokenModel` where the patients' inputs are tokens.
        names: the parameters that train, in the order of the flat vector.
        size: how many numbers these are.
        scans: computed at once; none: as many as fit in memory when inputs are tokens.
        loss: of each scan.
    """

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str],
        size: int,
        scans: int | None = None,
        loss: PatientLoss = CROSS_ENTROPY,
    ) -> None:
        self._reader = _Reader(model)
        self._scan_losses = loss
        self._names = tuple(names)
        self._scans = scans or min(_BATCHED_SCANS, max(1, _BATCHED_NUMBERS // size))

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

    @abstractmethod
    def of_scans(self, values: _Values, parts: tuple[Tensor, ...], labels: Tensor) -> list[Tensor]:
        """``(n, ...)`` per parameter: the gradient of the loss of each of n scans."""

    def _of(self, patients: Sequence[PatientExamples]) -> Tensor:
        first = patients[0].inputs
        self._reader.kind = type(first) if isinstance(first, Batch) else None
        parts = [torch.cat(part) for part in zip(*map(_parts, patients), strict=True)]
        labels = torch.cat([patient.labels for patient in patients])
        owned = dict(self._reader.model.named_parameters())
        values = {f"model.{name}": owned[name].detach() for name in self._names}
        counts = torch.tensor([len(p.labels) for p in patients], device=labels.device)
        if len(labels) == len(patients) <= 2 * self._scans:
            return _joined(self.of_scans(values, tuple(parts), labels))
        owner = torch.repeat_interleave(torch.arange(len(patients), device=labels.device), counts)
        # The patient's scans are averaged before the one clip. Not by a product of matrices: there
        # a gradient that is not finite would reach the other patients.
        size = sum(value.numel() for value in values.values())
        means = torch.zeros(len(patients), size, dtype=torch.float64, device=labels.device)
        # A patient with many scans or augmented views does not fit in memory at once.
        for rows in torch.arange(len(labels)).chunk(-(-len(labels) // (2 * self._scans))):
            by_name = self.of_scans(values, tuple(part[rows] for part in parts), labels[rows])
            means.index_add_(0, owner[rows], _joined(by_name) / counts[owner[rows], None])
        return means


class OwnCopyGradients(BatchedGradients):
    """One backward pass in which every scan reads a copy of the parameters of its own.

    The gradient at a copy is that of its scan, and the pass costs about what an ordinary one does.
    For models whose parameters may have scans as a leading dimension (they say so:
    ``parameters_per_scan``). Assumes that scans do not meet in the forward pass, which the
    self-test checks before the first patient.
    """

    def of_scans(self, values: _Values, parts: tuple[Tensor, ...], labels: Tensor) -> list[Tensor]:
        """``(n, ...)`` per parameter."""
        copies = {
            name: value.expand(len(labels), *value.shape).requires_grad_()
            for name, value in values.items()
        }
        loss = self._scan_losses(functional_call(self._reader, copies, parts), labels).sum()
        return list(torch.autograd.grad(loss, list(copies.values())))


class MappedGradients(BatchedGradients):
    """``vmap(grad)`` over the scans: any model, twice the time of a batch where a scan is small.

    Every scan is a computation of its own by construction, so nothing can couple patients here.
    """

    def of_scans(self, values: _Values, parts: tuple[Tensor, ...], labels: Tensor) -> list[Tensor]:
        """``(n, ...)`` per parameter."""
        mapped = vmap(grad(self._loss), in_dims=(None, 0, 0), randomness="different")
        return list(mapped(values, parts, labels).values())

    def _loss(self, values: _Values, parts: tuple[Tensor, ...], label: Tensor) -> Tensor:
        output = functional_call(self._reader, values, tuple(part[None] for part in parts))
        return self._scan_losses(output, label[None])[0]


def _joined(by_name: Sequence[Tensor]) -> Tensor:
    """``(n, P)`` float64 from ``(n, ...)`` of every parameter."""
    return torch.cat([value.flatten(1) for value in by_name], dim=1).double()


def _parts(patient: PatientExamples) -> tuple[Tensor, ...]:
    """What a patient's inputs are made of, scans first."""
    if isinstance(patient.inputs, Batch):
        return tuple(patient.inputs.tensors().values())
    return (torch.cat([cast(Tensor, inputs) for inputs, _ in patient.chunks()]),)


class _Reader(nn.Module):
    """A model as a function of tensors: its volumes, or the parts of its tokens."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.kind: type[Batch] | None = None

    def forward(self, *parts: Tensor) -> ModelOutput:
        """``(B, C)`` logits, and what else the model gives."""
        if self.kind is None:
            return cast(ModelOutput, self.model(parts[0]))
        inputs = self.kind(*parts)
        if isinstance(self.model, TokenModel) and isinstance(inputs, self.model.tokens):
            return self.model.reason(inputs)
        return cast(ModelOutput, self.model(inputs))
