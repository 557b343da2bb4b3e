"""The same steps without privacy: no clipping, no noise, several patients per forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from client.training.data_free import DataFreeGradient
from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.layered_rates import shorten_steps
from client.training.patient_loss import CROSS_ENTROPY, PatientLoss
from client.training.precision import Forward
from shared_model.batch import Batch, Inputs, join
from shared_model.privacy.secure_random import SeededRandom

_SCANS_PER_FORWARD = 64

Weighted = tuple[Inputs, Tensor, Tensor]


class PlainSGD:
    """SGD over Poisson-sampled patients, for public or synthetic data; gives no privacy.

    Sampling, the mean over a patient's scans and the fixed denominator are those of
    :class:`client.training.patient_sgd.PatientSGD`; the sampling is seeded, so that a run repeats
    bit for bit on the same machine and number of threads.
    """

    def __init__(
        self,
        forward: Forward,
        parameters: Sequence[nn.Parameter],
        *,
        sampling_rate: float,
        declared_patients: int,
        learning_rate: float,
        weight_decay: float,
        random: SeededRandom,
        loss: PatientLoss = CROSS_ENTROPY,
        data_free: DataFreeGradient | None = None,
        rate_factors: Tensor | None = None,
    ) -> None:
        self._rate_factors = rate_factors
        self._forward = forward
        self._loss = loss
        self._data_free = data_free
        self._flat = FlatParameters(parameters)
        self._optimizer = torch.optim.SGD(
            [self._flat.master], lr=learning_rate, weight_decay=weight_decay
        )
        self._sampling_rate = sampling_rate
        self._denominator = sampling_rate * declared_patients
        self._random = random

    def step(self, patients: Sequence[PatientExamples]) -> tuple[float, int]:
        """Take one step; return the summed patient losses before it and the patients drawn."""
        drawn = self._random.select(len(patients), self._sampling_rate)
        self._flat.gradient.zero_()
        chosen = [patients[index] for index in drawn]
        losses = backward_patients(self._forward, chosen, self._loss)
        gradient = self._flat.gradient.double() / self._denominator
        if self._data_free is not None:
            gradient += self._data_free(self._flat.master.detach())
        self._flat.master.grad = gradient
        before = self._flat.master.detach().clone() if self._rate_factors is not None else None
        self._optimizer.step()
        shorten_steps(self._flat, before, self._rate_factors)
        self._flat.publish()
        return losses, len(drawn)

    def close(self) -> None:
        """Detach from the model."""
        self._flat.close()


def backward_patients(
    forward: Forward, patients: Sequence[PatientExamples], loss: PatientLoss = CROSS_ENTROPY
) -> float:
    """Accumulate the gradient of the sum of patient losses, and return that sum.

    The loss of a patient is the mean of ``loss`` over the patient's scans.
    """
    total = 0.0
    for inputs, labels, weights in _batches(patients):
        batch = (loss(forward(inputs), labels) * weights).sum()
        torch.autograd.backward(batch)
        total += float(batch.detach())
    return total


def _batches(patients: Sequence[PatientExamples]) -> Iterator[Weighted]:
    """Group in-memory patients into batches, in order; volumes come one scan at a time."""
    waiting: list[Weighted] = []
    for patient in patients:
        for inputs, labels in patient.chunks():
            weights = torch.full((len(labels),), 1 / len(patient.labels), device=labels.device)
            waiting.append((inputs, labels, weights))
            if sum(len(item[1]) for item in waiting) >= _SCANS_PER_FORWARD or (
                not isinstance(patient.inputs, Batch | Tensor)
            ):
                yield _join(waiting)
                waiting = []
    if waiting:
        yield _join(waiting)


def _join(batches: Sequence[Weighted]) -> Weighted:
    inputs, labels, weights = zip(*batches, strict=True)
    return join(inputs), torch.cat(labels), torch.cat(weights)
