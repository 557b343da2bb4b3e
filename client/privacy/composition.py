"""Which plans would void the guarantee whatever they spend."""

from __future__ import annotations

from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan


def site_trains_in_rounds(plan: FederationPlan) -> bool:
    """Whether site parameters move between releases: only FedBN-like training without privacy."""
    return plan.privacy.mode == "none" and plan.adaptation.site_norm == "local"


def refuse_unsound(plan: FederationPlan) -> None:
    """Raise SMR-E304 for a plan that breaks the composition rule (science.md 3.2).

    Site parameters that are fitted without noise and then steer a later release change the clipped
    gradient of every other patient when one patient is removed: the released sum then moves by up
    to 2nC, not C, and the accounted epsilon is wrong.
    """
    if plan.privacy.mode != "none" and plan.adaptation.site_norm == "local":
        raise SmrfedError(
            "SMR-E304",
            "site_norm 'local' would train site parameters without noise between releases",
            expected="site_norm 'off', 'shared' or 'residual' in privacy mode 'local'",
            found="site_norm 'local'",
            remedy="set adaptation.site_norm to 'residual': the site then fits its residual after "
            "the last release (personalise = 'after')",
        )
