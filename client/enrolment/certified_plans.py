"""Accepted plans with a secure sum name this site's signing key: another key is another plan."""

from __future__ import annotations

from client.agent.acceptance import AcceptedPlans
from client.agent.state import StateFolder
from client.config import SiteConfig
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.keys import load_signing_key
from shared_model.secure_aggregation.plan_block import is_signing_key


def certified_plans(config: SiteConfig) -> tuple[FederationPlan, ...]:
    """Accepted plans in which the site's present key certifies its masks, oldest first.

    Raises SMR-E118 (keys) and SMR-E406 (a damaged plan).
    """
    state = StateFolder(config.state_dir)
    if not state.key.exists():
        return ()
    key = load_signing_key(state.key).public_key()
    plans = (acceptance.plan for acceptance in AcceptedPlans(state.plans).all())
    return tuple(
        plan
        for plan in plans
        if plan.privacy.summed
        and config.name in plan.weights
        and is_signing_key(plan, config.name, key)
    )


def of_the_old_key(plans: tuple[FederationPlan, ...]) -> SmrfedError:
    """SMR-E456, said before it happens; a warning, not to be raised: a stolen key must go."""
    return SmrfedError(
        "SMR-E456",
        "accepted plans with a secure sum name the signing key that is being replaced",
        expected="plans without a secure sum, or over",
        found=", ".join(f"{plan.name!r} ({plan.digest[:12]})" for plan in plans),
        remedy="their runs go on without this hospital; if one is not over, the coordinator drafts "
        "its plan anew (smrfed-coordinator plan new --privacy distributed --home HOME takes the "
        "new key from the registry), and every hospital accepts it",
    )
