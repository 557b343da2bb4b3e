"""Which switches of the aggregation exclude one another, or need another part of the plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shared_model.aggregation.summed_contradictions import summed_contradictions

if TYPE_CHECKING:
    from shared_model.plan import FederationPlan


def refuse_contradictions(plan: FederationPlan) -> None:
    """Raise ValueError, naming the field and the remedy, for what would not do what it says."""
    for problem in (
        *_rule(plan),
        *_server(plan),
        *_local(plan),
        *_control(plan),
        *_own(plan),
        *_best(plan),
        *summed_contradictions(plan),
    ):
        raise ValueError(problem)


def _rule(plan: FederationPlan) -> Iterator[str]:
    """A robust rule withstands f sites only among enough others, and only unweighted."""
    aggregation, federation = plan.aggregation, plan.federation
    rule, faulty = aggregation.rule, aggregation.faulty_sites
    if rule in ("trimmed_mean", "krum") and not faulty:
        yield f"aggregation.rule {rule!r} needs aggregation.faulty_sites of at least 1"
    if rule in ("mean", "median") and faulty:
        yield f"aggregation.faulty_sites has no meaning for rule {rule!r}: leave it out"
    if rule == "mean":
        return
    needed = {"median": 3, "trimmed_mean": 2 * faulty + 1, "krum": 2 * faulty + 3}[rule]
    if federation.min_sites < needed:
        yield (
            f"aggregation.rule {rule!r} with faulty_sites {faulty} needs federation.min_sites of "
            f"at least {needed}: it must hold in every round; found {federation.min_sites}"
        )
    if federation.weighting != "equal":
        yield f"aggregation.rule {rule!r} counts sites: set federation.weighting to 'equal'"


def _server(plan: FederationPlan) -> Iterator[str]:
    optimizer, rate = plan.aggregation.server_optimizer, plan.training.server_learning_rate
    if optimizer != "sgd" and rate >= 1:
        yield (
            f"server_optimizer {optimizer!r} moves every parameter by about "
            f"training.server_learning_rate a round: set it below 1 (0.01 is usual); found {rate}"
        )


def _local(plan: FederationPlan) -> Iterator[str]:
    """What pulls a site to the common parameters must not overshoot them, nor do nothing."""
    aggregation, training = plan.aggregation, plan.training
    for field in ("proximal_mu", "multi_task_lambda"):
        strength = getattr(aggregation, field) or 0.0
        if training.learning_rate * (strength + training.weight_decay) > 1:
            yield (
                f"training.learning_rate * (aggregation.{field} + weight_decay) must be at most 1,"
                f" or the steps overshoot; found {training.learning_rate} * "
                f"({strength} + {training.weight_decay})"
            )
    if aggregation.proximal_mu > 0:
        if training.local_steps == 1:
            yield (
                "aggregation.proximal_mu does nothing with training.local_steps 1: its gradient is "
                "zero where a round starts"
            )
        if aggregation.multi_task_lambda is not None:
            yield "aggregation.proximal_mu and multi_task_lambda pull twice: choose one"


def _control(plan: FederationPlan) -> Iterator[str]:
    """Control variates are mean gradients of one common function: plain steps, exact means."""
    aggregation, adaptation = plan.aggregation, plan.adaptation
    if not aggregation.control_variates:
        return
    if plan.training.local_steps == 1:
        yield (
            "aggregation.control_variates needs training.local_steps of at least 2: with one step "
            "sites do not drift apart within a round"
        )
    if plan.training.rate_factors:
        yield (
            "aggregation.control_variates reads mean gradients off the update: leave out "
            "training.rate_factors"
        )
    if aggregation.rule != "mean" or aggregation.server_optimizer != "sgd":
        yield "aggregation.control_variates needs rule 'mean' and server_optimizer 'sgd'"
    if aggregation.proximal_mu > 0 or aggregation.multi_task_lambda is not None:
        yield "aggregation.control_variates excludes proximal_mu and multi_task_lambda"
    if (
        adaptation.site_norm == "local"
        or adaptation.personalise == "private"
        or adaptation.moments_set_the_residual
    ):
        yield (
            "aggregation.control_variates needs site parameters that rest during the rounds: "
            "site_norm 'off', 'shared' or 'residual', personalise 'never' or 'after', and no "
            "site_moments 'shift' or 'affine'"
        )


def _own(plan: FederationPlan) -> Iterator[str]:
    """Own models have a mean that is theirs, and nothing else that makes them the site's own."""
    aggregation, adaptation = plan.aggregation, plan.adaptation
    if aggregation.multi_task_lambda is None:
        return
    if aggregation.rule != "mean" or aggregation.server_optimizer != "sgd":
        yield "aggregation.multi_task_lambda needs rule 'mean' and server_optimizer 'sgd'"
    if plan.training.server_learning_rate != 1:
        yield (
            "aggregation.multi_task_lambda needs training.server_learning_rate 1: what is released "
            "is the mean of the sites' models"
        )
    if (
        adaptation.personalise != "never"
        or adaptation.site_norm == "local"
        or adaptation.site_moments != "off"
    ):
        yield (
            "aggregation.multi_task_lambda makes every parameter the site's own: set "
            "adaptation.personalise to 'never', with site_norm 'off', 'shared' or 'residual' and "
            "site_moments 'off'"
        )


def _best(plan: FederationPlan) -> Iterator[str]:
    """The parameters of an earlier round would meet what a site has of its own from a later one."""
    own = plan.aggregation.multi_task_lambda is not None
    if plan.evaluation.early_stop_release != "best":
        return
    if own or plan.adaptation.trains_in_rounds(plan.privacy.mode):
        yield (
            "evaluation.early_stop_release 'best' needs site parameters that rest during the "
            "rounds: no aggregation.multi_task_lambda, personalise 'never' or 'after', and without "
            "privacy no site_norm 'local'"
        )
