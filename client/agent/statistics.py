"""The sums over this hospital's patients that a plan may ask for beside updates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from client.agent.embeddings import mean_embeddings
from client.agent.evaluation import mean_deviations, mean_probabilities
from client.privacy.gaussian_release import release_sum
from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.adaptation import moments
from shared_model.adaptation.dimensions import moments_projection
from shared_model.plan import FederationPlan
from shared_model.privacy.secure_random import SecureRandom
from shared_model.releases.statistics import (
    Statistics,
    classes,
    noise_multiplier,
    patient_vectors,
    split,
)


def released_statistics(
    model: SiteModel, examples: Sequence[PatientExamples], plan: FederationPlan, kind: Statistics
) -> dict[str, npt.NDArray[np.float32]]:
    """The arrays of one ``evaluate``, ``calibrate`` or ``moments`` reply, float32, by name.

    In mode ``local`` this is one use of the Gaussian mechanism on the patients of ``examples``
    (:mod:`client.privacy.gaussian_release`), one row per patient whatever the number of scans; the
    caller has reserved it. Assumes that the model's parameters are public or released: shared ones
    as the coordinator sent them, site ones at their public values, or as noised training or
    released moments left them (:func:`client.agent.site_rounds.place_site`). In mode ``none`` it is
    the exact sum.
    """
    noise = noise_multiplier(plan, kind)
    if plan.privacy.mode != "none" and not noise > 0:
        raise ValueError(f"'{kind}' without noise in privacy mode {plan.privacy.mode!r}")
    if kind == "moments":
        labels, z = mean_embeddings(model, examples)
        z = z @ moments_projection(plan)
        bounded = moments.patient_vectors(labels, z, classes(plan), plan.adaptation.moments_radius)
        return split(kind, release_sum(bounded, noise, SecureRandom() if noise else None), plan)
    y, p = mean_probabilities(model, examples)
    unseen = kind == "calibrate" and plan.calibration.unseen_sites
    deviation = mean_deviations(examples) if unseen else None
    rows = patient_vectors(kind, y, p, plan, deviation)
    total = release_sum(rows, noise, SecureRandom() if noise > 0 else None)
    return split(kind, total, plan)
