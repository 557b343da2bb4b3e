"""What an attacker computes for a patient whose scans he has, from the parameters he saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.protocol.arrays import Arrays
from simulations.audit.one_run import Floats


def loss_scores(model: SiteModel, released: Arrays, patients: Sequence[PatientExamples]) -> Floats:
    """``(n,)`` minus each patient's mean loss under the released model (Yeom 2018)."""
    model.load_shared(released)
    model.model.eval()
    with torch.no_grad():
        return np.array([-float(_loss(model, patient)) for patient in patients])


def update_scores(
    model: SiteModel,
    bodies: Sequence[Arrays],
    patients: Sequence[PatientExamples],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Floats:
    """``(n,)`` how far the updates of all rounds go the way of each patient's own gradient.

    The attacker has the patient's scans and label and every released update; gradients are taken
    at the parameters of the round and scaled to unit length, as clipping does (Andrew 2024).
    """
    scores = np.zeros(len(patients))
    parameters = model.parameters(model.groups["shared"])
    names = model.groups["shared"]
    for number in range(1, len(bodies)):
        before, after = bodies[number - 1], bodies[number]
        update = torch.cat(
            [torch.from_numpy(before[name] - after[name]).reshape(-1) for name in names]
        )
        model.load_shared(before)
        model.model.eval()
        for index, patient in enumerate(patients):
            found = torch.autograd.grad(_loss(model, patient), parameters)
            gradient = torch.cat([part.reshape(-1) for part in found])
            scores[index] += float(gradient @ update / gradient.norm().clamp(min=1e-12))
        progress(number, len(bodies) - 1)
    return scores


def _loss(model: SiteModel, patient: PatientExamples) -> Tensor:
    total = torch.zeros(())
    for inputs, labels in patient.chunks():
        total = total + cross_entropy(model.logits(inputs), labels, reduction="sum")
    return total / len(patient.labels)
