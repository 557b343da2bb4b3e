"""What a claimed mechanism allows any attack: its privacy profile, from its loss distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from shared_model.privacy.accounting import MechanismUse

Floats = npt.NDArray[np.float64]

# Pessimistic discretisation: the profile is never below the truth. Losses grow with 1 / noise.
_INTERVAL = 1e-3
_LARGEST_EPSILON = 60.0
_POINTS = 1201


@dataclass(frozen=True, eq=False)
class PrivacyProfile:
    """``delta(epsilon)`` of a mechanism under add-or-remove-one, at epsilons of both signs.

    An attack that says "member" with probability ``fpr`` for an outsider says it with probability
    at most ``min_eps exp(eps) fpr + delta(eps)`` for a member, and the other way round: the profile
    is symmetric because the neighbouring relation is.
    """

    epsilons: Floats
    deltas: Floats

    @classmethod
    def of_deltas(cls, delta: Callable[[Floats], Floats]) -> PrivacyProfile:
        """A profile from ``delta`` at non-negative epsilons (ascending)."""
        positive = np.linspace(0, _LARGEST_EPSILON, _POINTS) ** 2 / _LARGEST_EPSILON
        found = np.clip(delta(positive), 0, 1)
        # delta(-e) = 1 - exp(-e) (1 - delta(e)): the same region, seen from the other side.
        mirrored = 1 - np.exp(-positive[:0:-1]) * (1 - found[:0:-1])
        return cls(np.concatenate([-positive[:0:-1], positive]), np.concatenate([mirrored, found]))

    def most_members(self, fpr: float) -> float:
        """The largest true-positive rate that the profile allows at a false-positive rate."""
        return float(min(1.0, np.min(np.exp(self.epsilons) * fpr + self.deltas)))

    def fewest_wrong(self, right: float) -> float:
        """The smallest mass of wrong guesses beside a mass of right ones (the inverse of above)."""
        return float(max(0.0, np.max((right - self.deltas) * np.exp(-self.epsilons))))


@lru_cache(maxsize=512)
def profile_of(use: MechanismUse) -> PrivacyProfile:
    """The profile of a Poisson-subsampled Gaussian mechanism (PLD, Koskela 2020)."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    one = pld.from_gaussian_mechanism(
        use.noise_multiplier,
        value_discretization_interval=_INTERVAL / min(1.0, use.noise_multiplier) ** 2,
        sampling_prob=use.sampling_rate,
    )
    composed = one.self_compose(use.steps)
    return PrivacyProfile.of_deltas(
        lambda epsilons: np.asarray(composed.get_delta_for_epsilon(epsilons.tolist()))
    )


def approximate_profile(epsilon: float, delta: float) -> PrivacyProfile:
    """The profile of everything that is ``(epsilon, delta)``-DP and of which no more is known."""
    return PrivacyProfile.of_deltas(
        lambda epsilons: np.maximum(
            delta,
            np.where(
                epsilons >= epsilon,
                delta,
                # Randomised response that fails with probability delta, the worst case.
                delta
                + (1 - delta)
                * (np.exp(epsilon) - np.exp(np.minimum(epsilons, epsilon)))
                / (1 + np.exp(epsilon)),
            ),
        )
    )
