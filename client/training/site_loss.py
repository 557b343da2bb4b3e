"""The loss of a plan at one site: its model's, and layer B's term once moments were released."""

from __future__ import annotations

from collections.abc import Mapping

from client.training.patient_loss import PatientLoss
from shared_model.adaptation.alignment import MomentMatching, SiteConfusion
from shared_model.adaptation.dimensions import moments_projection
from shared_model.adaptation.moments import SiteMoments
from shared_model.plan import FederationPlan
from shared_model.registry import model_entry


def site_loss(
    plan: FederationPlan, site: str, moments: Mapping[str, SiteMoments] | None
) -> PatientLoss:
    """What the site minimises, given the released moments of all sites (none: not yet released).

    With fewer than two sites there is nothing to align. The moments are constants that were
    released before, noised and accounted, so the loss of a patient still depends on that patient
    alone.
    """
    task = model_entry(plan.model.name).losses
    weights = plan.training.class_weighting.weights
    use, weight = plan.adaptation.site_moments, plan.adaptation.moments_weight
    if moments is None or len(moments) < 2:
        return PatientLoss(None, task, weights)
    if use == "confusion":
        aligned = SiteConfusion(moments, moments_projection(plan), weight)
        return PatientLoss(aligned, task, weights)
    if use == "linear" and site in moments:
        matched = MomentMatching(site, moments, moments_projection(plan), weight)
        return PatientLoss(matched, task, weights)
    return PatientLoss(None, task, weights)
