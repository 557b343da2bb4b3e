"""A plan's rounds with layer B, without agents, ledger and messages; for synthetic patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from client.agent.statistics import released_statistics
from client.training.examples import PatientExamples
from client.training.rounds import train_round
from client.training.site_model import SiteModel
from client.training.site_shift import shift_site
from server.aggregation.fixed_point import FixedPointSum
from shared_model.adaptation.moments import SiteMoments
from shared_model.adaptation.wire import Carried
from shared_model.plan import FederationPlan
from shared_model.releases.schedule import moments_due
from simulations.arms.train_rounds import Arrays


@dataclass(frozen=True, eq=False)
class Aligned:
    """The released shared parameters, and what each site keeps for itself."""

    shared: Arrays
    own: dict[str, Arrays]


def aligned_rounds(
    model: SiteModel,
    initial: Arrays,
    sites: Mapping[str, Sequence[PatientExamples]],
    plan: FederationPlan,
) -> Aligned:
    """Run the rounds as agents and driver do; without privacy the result has the same bits."""
    current, weights, norms = initial, plan.weights, dict[str, float]()
    model.reset_site()
    own = {name: model.site_arrays() for name in sites}
    moments: dict[str, SiteMoments] | None = None
    for number in range(1, plan.training.rounds + 1):
        shapes = {name: value.shape for name, value in current.items()}
        total = FixedPointSum(shapes, sum(weights.values()))
        for name, examples in sites.items():
            model.load_shared(current)
            model.load_site(own[name])
            update = train_round(
                model, examples, plan, name, number, "battery", norms.get(name), moments
            )
            norms[name], own[name] = update.clipping_norm, model.site_arrays()
            total.add(update.delta, weights[name])
        current = total.step(current, plan.training.server_learning_rate)
        if moments_due(plan, number):
            moments = released_moments(model, current, sites, plan, own)
            if plan.adaptation.moments_set_the_residual:
                for name in sites:
                    model.load_site(own[name])
                    shift_site(model, name, moments)
                    own[name] = model.site_arrays()
    return Aligned(current, own)


def released_moments(
    model: SiteModel,
    current: Arrays,
    sites: Mapping[str, Sequence[PatientExamples]],
    plan: FederationPlan,
    own: Mapping[str, Arrays] | None = None,
) -> dict[str, SiteMoments]:
    """One release of moments by all sites, noised as the plan says."""
    arrays = {}
    for name, examples in sites.items():
        model.load_shared(current)
        model.reset_site()
        if own is not None:
            model.load_site(own[name])
        arrays[name] = released_statistics(model, examples, plan, "moments")
    return Carried(0, arrays).moments(plan)
