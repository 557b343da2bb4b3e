"""The private engine over a small real SMR-Net, for the tests of clipping, noise and sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from small_site import FixedRandom
from torch import Tensor
from torch.nn.functional import cross_entropy

from client.training.adaptive_clip import AdaptiveClip
from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.patient_gradients import PatientGradients, patient_gradients
from client.training.patient_sgd import PatientSGD
from client.training.site_model import SiteModel
from shared_model.privacy.secure_random import RandomStream


def engine(
    flat: FlatParameters,
    gradients: PatientGradients,
    random: RandomStream,
    *,
    noise: float = 1.0,
    clip: float = 1.0,
    rate: float = 1.0,
    declared: int = 4,
    lr: float = 1.0,
    adaptive: AdaptiveClip | None = None,
) -> PatientSGD:
    return PatientSGD(
        flat,
        gradients,
        sampling_rate=rate,
        declared_patients=declared,
        noise_multiplier=noise,
        clipping_norm=clip,
        learning_rate=lr,
        weight_decay=0.0,
        random=random,
        adaptive=adaptive,
    )


def site_engine(site_model: SiteModel, random: RandomStream, **options: object) -> PatientSGD:
    names = site_model.groups["shared"]
    flat = FlatParameters(site_model.parameters(names))
    return engine(flat, patient_gradients(site_model, names, flat), random, **options)  # type: ignore[arg-type]


class GivenGradients:
    """Hands out rows that a test made, as the gradients of as many patients."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __call__(self, patients: Sequence[PatientExamples]) -> Iterator[Tensor]:
        yield self.rows


def largest_move(site_model: SiteModel, patients: list[PatientExamples], clip: float) -> float:
    """Largest change of the clipped sum, over C, when one patient is removed."""
    private = site_engine(site_model, FixedRandom(), clip=clip)
    everybody = private.clipped_sum(patients)
    return max(
        float((everybody - private.clipped_sum(patients[:i] + patients[i + 1 :])).norm()) / clip
        for i in range(len(patients))
    )


def one_by_one(site_model: SiteModel, patient: PatientExamples) -> Tensor:
    """``(P,)`` float64 micro-batch truth: one backward per scan, averaged over the scans."""
    parameters = site_model.parameters(site_model.groups["shared"])
    mean = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    for inputs, labels in patient.chunks():
        for row in range(len(labels)):
            loss = cross_entropy(site_model.logits(inputs[row : row + 1]), labels[row : row + 1])
            grads = torch.autograd.grad(loss, parameters)
            flat = torch.cat([g.reshape(-1).double() for g in grads])
            mean += flat / len(patient.labels)
    return mean
