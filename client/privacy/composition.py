"""Which plans would void the guarantee whatever they spend."""

from __future__ import annotations

from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan


def site_trains_in_rounds(plan: FederationPlan) -> bool:
    """Whether site parameters take part in the rounds' gradient steps."""
    return plan.adaptation.trains_in_rounds(plan.privacy.mode)


def site_moves_in_rounds(plan: FederationPlan) -> bool:
    """Whether site parameters differ from round to round, so that they are kept in between.

    They train, or released moments set them: post-processing of what was noised and accounted,
    without a look at a patient (:mod:`client.training.site_shift`).
    """
    return site_trains_in_rounds(plan) or plan.adaptation.moments_set_the_residual


def refuse_unsound(plan: FederationPlan) -> None:
    """Raise SMR-E304 for a plan that breaks the composition rule (science.md 3.2).

    Site parameters that are fitted without noise and then steer a later release change the clipped
    gradient of every other patient when one patient is removed: the released sum then moves by up
    to 2nC, not C, and the accounted epsilon is wrong.
    """
    without_noise = plan.adaptation.personalise != "private"
    if plan.privacy.mode != "none" and plan.adaptation.site_norm == "local" and without_noise:
        raise SmrfedError(
            "SMR-E304",
            "site_norm 'local' would train site parameters without noise between releases",
            expected="site_norm 'off', 'shared' or 'residual' with privacy, or "
            "personalise 'private'",
            found="site_norm 'local'",
            remedy="set adaptation.site_norm to 'residual': the site then fits its residual after "
            "the last release (personalise = 'after')",
        )
