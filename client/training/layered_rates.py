"""Layered learning rates: shorter steps of some parameters, after the clip and the noise.

Guarantee: the factors are public constants of the plan, and the step that they scale is what the
noised sum gave, so the guarantee of :class:`client.training.patient_sgd.PatientSGD` holds as it
is (post-processing). Inside the clip they would be another matter: a patient's gradient is one
vector, its norm is bounded by C before anything is scaled, and the noise is ``sigma C`` on every
number of it. Limit: a factor above 1 would break the public bound on a site's update, so a plan
has none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from client.training.flat_parameters import FlatParameters
from client.training.site_model import SiteModel
from shared_model.plan import FederationPlan
from shared_model.weighting import rate_factor_of


def rate_vector(
    site_model: SiteModel, trained: Sequence[str], plan: FederationPlan
) -> Tensor | None:
    """``(P,)`` float64 factors in the order of ``trained``; none where the plan has none."""
    factors = plan.training.rate_factors
    if not factors:
        return None
    parts = [
        torch.full((parameter.numel(),), rate_factor_of(name, factors), dtype=torch.float64)
        for name, parameter in zip(trained, site_model.parameters(trained), strict=True)
    ]
    return torch.cat(parts).to(site_model.device)


@torch.no_grad()
def shorten_steps(flat: FlatParameters, before: Tensor | None, factors: Tensor | None) -> None:
    """Keep ``factors`` of the way that the master values went from ``before``, both ``(P,)``.

    Weight decay and what pulls towards other sites is part of the way, as with the parameter groups
    of an optimiser.
    """
    if before is None or factors is None:
        return
    flat.master.copy_(before + factors * (flat.master - before))
