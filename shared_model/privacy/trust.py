"""Under which trust a plan's epsilon holds, and for whom, in words for a person who decides."""

from __future__ import annotations

from shared_model.plan import FederationPlan
from shared_model.privacy.summed_noise import section_of


def trust_in_words(plan: FederationPlan) -> str:
    """Who must be trusted with a patient, beside the patient's own hospital."""
    mode = plan.privacy.mode
    if mode == "none":
        return "nothing is hidden from the coordinator but the images"
    if mode == "local":
        return "every hospital adds its own noise; nobody outside is trusted with a patient"
    section = section_of(plan)
    # Below, a coordinator that tells two groups of sites two different sums opens none of them.
    needed = max(1, 2 * section.threshold - len(plan.federation.sites))
    hidden = (
        f"nobody sees one hospital's sum unless {needed} or more hospitals conspire with the "
        "coordinator"
    )
    if mode == "central":
        return (
            "the coordinator sees the exact sum of all hospitals, adds the noise and is trusted "
            f"with it; {hidden}"
        )
    honest, colluding = section.honest_survivors, section.colluding
    who = "no hospital" if colluding == 0 else f"at most {colluding} of the hospitals"
    return (
        f"{who} may collude with the coordinator, and at least {honest} honest hospitals of every "
        f"round must add their share of the noise; {hidden}"
    )


def unit_in_words(plan: FederationPlan) -> str:
    """Whose presence epsilon hides."""
    if plan.privacy.unit == "hospital":
        return "hospital, with all that its patients contribute to training"
    return "patient, with all scans and visits"


def neighbouring_in_words(plan: FederationPlan) -> str:
    """Which two data sets epsilon compares."""
    if plan.privacy.unit == "hospital":
        return "add or remove the patients of one hospital (that it takes part is public)"
    return "add or remove one patient of a hospital"
