"""Personalisation: the hospital fits its own parameters after the last release, and keeps them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from client.privacy.composition import site_moves_in_rounds
from client.training.deterministic import deterministic
from client.training.examples import PatientExamples
from client.training.patient_loss import PatientLoss
from client.training.plain_sgd import backward_patients
from client.training.site_model import SiteModel
from shared_model.plan import FederationPlan
from shared_model.privacy.secure_random import SeededRandom


def personalise(
    site_model: SiteModel, examples: Sequence[PatientExamples], plan: FederationPlan
) -> dict[str, npt.NDArray[np.float32]]:
    """Fit the site parameters phi with the released model held fixed, and return them by name.

    Minimises the mean patient loss plus ``(penalty / 2) ||phi - phi_0||^2`` (science.md 3.2, option
    ii) by full-batch Adam; deterministic. ``phi_0`` is zero for residuals; for site parameters that
    moved in the rounds it is where they arrived.
    The result depends on patients without noise: it must never leave the hospital, nor steer a
    later release (:func:`client.training.rounds.train_round` resets it first). Returns the
    ``phi_0`` when the plan does not say ``after``, when the model has none, or when there are no
    patients.
    """
    names = site_model.groups["site"]
    adaptation = plan.adaptation
    if not site_moves_in_rounds(plan):
        site_model.reset_site()
    if adaptation.personalise != "after" or not names or not examples:
        return site_model.site_arrays()
    site_model.train_only(names)
    site_model.model.eval()
    parameters = site_model.parameters(names)
    loss = PatientLoss(task=site_model.entry.losses)
    start = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.Adam(parameters, lr=adaptation.personalise_learning_rate)
    with deterministic(site_model.device, SeededRandom(plan.seed, "personalise")):
        for _ in range(adaptation.personalise_steps):
            optimizer.zero_grad(set_to_none=True)
            backward_patients(site_model.output, examples, loss)
            for parameter, origin in zip(parameters, start, strict=True):
                drift = adaptation.personalise_penalty * (parameter.detach() - origin)
                gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(drift)
                parameter.grad = gradient / len(examples) + drift
            optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    site_model.train_only(site_model.groups["shared"])
    return site_model.site_arrays()
