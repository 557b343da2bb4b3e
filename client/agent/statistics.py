"""The sums over this hospital's patients that a plan may ask for beside updates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from client.agent.evaluation import mean_probabilities
from client.privacy.gaussian_release import release_sum
from client.privacy.secure_random import SecureRandom
from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.plan import FederationPlan
from shared_model.releases.statistics import Statistics, noise_multiplier, patient_vectors, split


def released_statistics(
    model: SiteModel, examples: Sequence[PatientExamples], plan: FederationPlan, kind: Statistics
) -> dict[str, npt.NDArray[np.float32]]:
    """The arrays of one ``evaluate`` or ``calibrate`` reply, float32, by name.

    In mode ``local`` this is one use of the Gaussian mechanism on the patients of ``examples``
    (:mod:`client.privacy.gaussian_release`), one row per patient whatever the number of scans; the
    caller has reserved it. Assumes that the model's parameters are public or released: shared ones
    as the coordinator sent them, site ones at their public values. In mode ``none`` it is the
    exact sum.
    """
    noise = noise_multiplier(plan, kind)
    if plan.privacy.mode != "none" and not noise > 0:
        raise ValueError(f"'{kind}' without noise in privacy mode {plan.privacy.mode!r}")
    y, p = mean_probabilities(model, examples)
    rows = patient_vectors(kind, y, p, plan)
    total = release_sum(rows, noise, SecureRandom() if noise > 0 else None)
    return split(kind, total, plan)
