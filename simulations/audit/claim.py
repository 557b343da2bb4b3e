"""What is claimed: a plan's privacy section, accounted as the hospital's ledger does it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared_model.plan import FederationPlan
from shared_model.privacy.accounting import MechanismUse, epsilon
from simulations.audit.privacy_profile import PrivacyProfile, profile_of


@dataclass(frozen=True)
class Claim:
    """Epsilon at delta of a Poisson-subsampled Gaussian mechanism, add-or-remove one patient."""

    use: MechanismUse
    delta: float

    @classmethod
    def of(cls, plan: FederationPlan) -> Claim:
        """What a plan claims for all its rounds of training."""
        use = MechanismUse(
            plan.privacy.noise_multiplier, plan.training.sampling_rate, plan.total_steps
        )
        return cls(use, plan.privacy.delta)

    @property
    def epsilon(self) -> float:
        """The claimed epsilon, by privacy loss distributions."""
        return epsilon([self.use], self.delta)

    @property
    def profile(self) -> PrivacyProfile:
        """All that the claim says, of which epsilon at delta is one point."""
        return profile_of(self.use)

    def with_noise(self, factor: float) -> Claim:
        """The same mechanism with ``factor`` times the noise: a stronger claim above 1."""
        # Few digits, so that equal searches share their profiles.
        noise = float(f"{self.use.noise_multiplier * factor:.4g}")
        return replace(self, use=replace(self.use, noise_multiplier=noise))
