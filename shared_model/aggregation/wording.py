"""The plan's aggregation in one line, for a person who decides about it."""

from __future__ import annotations

from shared_model.plan import FederationPlan


def aggregation_in_words(plan: FederationPlan) -> str:
    """Local objective, rule, server optimiser and bound, as far as they are not FedAvg's."""
    section = plan.aggregation
    parts = []
    if section.proximal_mu:
        parts.append(f"FedProx, mu {section.proximal_mu:g}")
    if section.control_variates:
        parts.append("SCAFFOLD")
    if section.multi_task_lambda is not None:
        parts.append(f"MR-MTL, lambda {section.multi_task_lambda:g}: every site its own model")
    parts.append(_rule(plan))
    if section.server_optimizer != "sgd":
        parts.append(f"server {section.server_optimizer}")
    if section.norm_bound is not None:
        parts.append(f"updates up to norm {section.norm_bound:g}")
    return "; ".join(parts)


def _rule(plan: FederationPlan) -> str:
    section, secure = plan.aggregation, plan.secure_aggregation
    if secure is not None:
        return (
            f"one masked sum over {secure.min_survivors} to {len(plan.federation.sites)} sites, "
            f"opened by {secure.threshold} of them"
        )
    return {
        "mean": "mean of all updates",
        "median": "median of each coordinate",
        "trimmed_mean": f"mean without the {section.faulty_sites} largest and smallest values",
        "krum": f"one update by Krum, {section.faulty_sites} faulty sites",
    }[section.rule]
