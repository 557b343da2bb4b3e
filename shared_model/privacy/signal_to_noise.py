"""Whether a plan can work at its numbers of patients: signal over noise, before any is spent.

Over the whole plan, all clipped gradients together could move the weights by at most the sum of
their norms; the noise moves them by its own norm. Their ratio S (reference: science.md 4.1) is
below one where the run is a random walk, whatever the data say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from shared_model.plan import FederationPlan
from shared_model.privacy.summed_noise import share_variance, sum_variance

RANDOM_WALK, COMFORTABLE = 1.0, 10.0


@dataclass(frozen=True)
class SignalToNoise:
    """S of every site training alone, and of the federation as the coordinator adds it up.

    Upper bounds: as if every clipped gradient had the full norm and the same direction.
    """

    sites: Mapping[str, float]
    federation: float

    @property
    def verdict(self) -> str:
        """What the federation's S means, in a sentence."""
        if self.federation < RANDOM_WALK:
            return (
                "a random walk: the noise outweighs everything the patients could say; more "
                "patients or hospitals, fewer weights that train, or a larger epsilon are needed"
            )
        if self.federation < COMFORTABLE:
            return (
                "feasible with care: train few weights from a public start, and expect a loss "
                "against training without privacy"
            )
        return "comfortable: the noise is small beside what the patients say"


def signal_to_noise(plan: FederationPlan, parameters: int) -> SignalToNoise | None:
    """S of a plan that trains ``parameters`` numbers; ``None`` without noise. First mode ``local``.

    A site draws q of its n declared patients per step: after T steps the signal is at most
    ``T q n C`` and the noise about ``sigma C sqrt(T d)``. The coordinator averages updates that
    were each divided by q n, with public weights w: the signals add up to T, the noises as the
    root of their squares.

    In modes ``distributed`` and ``central`` one noise of sigma C is on the sum over all N declared
    patients (unit ``hospital``: over the hospitals); more survivors than were counted on add their
    shares to it.
    """
    noise, rate = plan.privacy.noise_multiplier, plan.training.sampling_rate
    if noise == 0:
        return None
    steps = plan.total_steps
    per_site = {
        site.name: rate * site.declared_patients * math.sqrt(steps / parameters) / noise
        for site in plan.federation.sites
    }
    if plan.privacy.summed:
        return SignalToNoise(per_site, _summed(plan, parameters))
    total = sum(plan.weights.values())
    variance = sum((plan.weights[name] / total / s) ** 2 for name, s in per_site.items())
    return SignalToNoise(per_site, 1 / math.sqrt(variance))


def patients_needed(plan: FederationPlan, parameters: int, target: float = COMFORTABLE) -> int:
    """Patients per hospital at which a plan with these many equal hospitals reaches S ``target``.

    Everything else as in the plan: full use of the same noise multiplier, steps and weights.
    """
    noise, rate = plan.privacy.noise_multiplier, plan.training.sampling_rate
    sites = len(plan.federation.sites)
    if plan.privacy.summed:
        if plan.privacy.unit == "hospital":
            raise ValueError("S of hospitals does not depend on their patients")
        total = sum(site.declared_patients for site in plan.federation.sites)
        return math.ceil(target * total / _summed(plan, parameters) / sites)
    per_patient = rate * math.sqrt(plan.total_steps / parameters * sites) / noise
    return math.ceil(target / per_patient)


def _summed(plan: FederationPlan, parameters: int) -> float:
    """S of a federation whose noise is on one sum, with every site in it."""
    sites = plan.federation.sites
    units: float = len(sites)
    if plan.privacy.unit == "patient":
        units = plan.training.sampling_rate * sum(site.declared_patients for site in sites)
    shares = 1 if plan.privacy.mode == "central" else len(sites)
    deviation = math.sqrt(shares * share_variance(plan) / sum_variance(plan))
    noise = plan.privacy.noise_multiplier * deviation
    return units * math.sqrt(plan.total_steps / parameters) / noise
