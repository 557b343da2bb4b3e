"""How long an honest site's update can be: site and coordinator compute the same bound."""

from __future__ import annotations

import math

from shared_model.plan import FederationPlan

# The norm of a P-dimensional standard normal exceeds sqrt(P) + 8 with probability below exp(-32).
_NORMAL_TAIL = 8.0
# A site may hold more patients than it declared; beyond twice as many, the declaration is wrong.
_DECLARED_MARGIN = 2.0


def update_norm_bound(
    plan: FederationPlan, site: str, numbers: int, round_number: int = 1
) -> float:
    """A bound on the L2 norm of an honest site's update of ``numbers`` parameters.

    In mode ``local`` each step moves the parameters by at most
    ``lr * C * (2 n + sigma * (sqrt(P) + 8)) / (q * n)`` for a site with up to twice its ``n``
    declared patients: the first term always holds, the noise term up to a probability of exp(-32)
    per step. It depends on public values only. There is no bound (``inf``) without clipping, and
    none with weight decay, whose term grows with the parameters.

    FedProx draws back to where the round began, and changes nothing. SCAFFOLD's ``c - c_k`` are
    mean gradients, each within the bound of a step: of any site, and of this one. Under MR-MTL what
    leaves is a distance of two models that both started from the same one, t rounds ago.

    In modes ``distributed`` and ``central`` nobody sees one site's update: there is no bound.
    """
    if plan.privacy.mode != "local" or plan.training.weight_decay > 0:
        return math.inf
    training, section = plan.training, plan.aggregation
    own = _step_bound(plan, plan.site(site).declared_patients, numbers)
    any_site = control_norm_bound(plan, numbers)
    step = own
    if section.control_variates:
        step = 2 * own + any_site
    elif section.multi_task_lambda is not None:
        step = round_number * (own + any_site)
    return training.local_steps * training.learning_rate * step


def control_norm_bound(plan: FederationPlan, numbers: int) -> float:
    """A bound on SCAFFOLD's common control: a mean of mean gradients, each of ``numbers``.

    What is longer comes from no honest federation, and would push every update past its own bound
    after it was paid for. No bound (``inf``) where :func:`update_norm_bound` has none.
    """
    if plan.privacy.mode != "local" or plan.training.weight_decay > 0:
        return math.inf
    sites = plan.federation.sites
    return max(_step_bound(plan, entry.declared_patients, numbers) for entry in sites)


def _step_bound(plan: FederationPlan, declared: int, numbers: int) -> float:
    """Of the gradient of one noised step, at a site with up to twice its declared patients."""
    privacy, training = plan.privacy, plan.training
    multiplier = privacy.noise_multiplier
    if privacy.clipping == "adaptive":
        # The sum gets more noise, because the count takes its share (Andrew et al. 2021).
        multiplier /= math.sqrt(1 - privacy.clip_share)
    noise = multiplier * (math.sqrt(numbers) + _NORMAL_TAIL)
    step = privacy.clipping_norm * (_DECLARED_MARGIN * declared + noise)
    return step / (training.sampling_rate * declared)
