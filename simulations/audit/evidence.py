"""What one attack saw, and which claims it refutes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from simulations.audit.gradient_game import Played
from simulations.audit.one_run import best_lower_bound
from simulations.audit.one_run_fdp import any_share_refutes
from simulations.audit.privacy_profile import PrivacyProfile
from simulations.audit.repeated_game import LOOKS, Drawn, count


class Evidence(Protocol):
    """The counts of one attack; ``error`` is the chance of a wrong statement about a true claim."""

    def refutes(self, profile: PrivacyProfile, error: float) -> bool:
        """Whether no mechanism within the profile would show this."""
        ...

    def epsilon_lower_bound(self, delta: float, error: float) -> float:
        """A bound for any mechanism: none with a smaller epsilon at delta would show this."""
        ...

    @property
    def told(self) -> str:
        """The counts in a few words."""
        ...


@dataclass(frozen=True, eq=False)
class OneRunEvidence:
    """Guesses about the canaries of one run."""

    played: Played

    def refutes(self, profile: PrivacyProfile, error: float) -> bool:
        """See :class:`Evidence`."""
        return any_share_refutes(self.played.scores, self.played.included, profile, error)

    def epsilon_lower_bound(self, delta: float, error: float) -> float:
        """See :class:`Evidence`."""
        return best_lower_bound(self.played.scores, self.played.included, delta, error)[0]

    @property
    def told(self) -> str:
        """Guesses at the share with the best bound."""
        _, made = best_lower_bound(self.played.scores, self.played.included, 1e-5, 0.05)
        return f"{made.right} of {made.made} guesses right, {made.canaries} canaries"


@dataclass(frozen=True, eq=False)
class RepeatedEvidence:
    """Independent trainings with and without one patient; each look has its share of the error."""

    drawn: Drawn

    def refutes(self, profile: PrivacyProfile, error: float) -> bool:
        """See :class:`Evidence`."""
        return any(count(self.drawn, k, error / len(LOOKS)).refutes(profile) for k in LOOKS)

    def epsilon_lower_bound(self, delta: float, error: float) -> float:
        """See :class:`Evidence`."""
        counts = [count(self.drawn, look, error / len(LOOKS)) for look in LOOKS]
        return max(counted.epsilon_lower_bound(delta) for counted in counts)

    @property
    def told(self) -> str:
        """True and false positives of both looks."""
        counts = [count(self.drawn, look, 0.05) for look in LOOKS]
        return "; ".join(
            f"by {c.look}: {c.true_positives} true and {c.false_positives} false positives "
            f"in {c.trials} trainings each"
            for c in counts
        )
