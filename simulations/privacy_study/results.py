"""The study as one JSON document: every figure of the page and of the README is in it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from simulations.privacy_study.arms import ArmKey
from simulations.privacy_study.predicted import Metric, Where


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Estimate(_Record):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


class Utility(_Record):
    """Mean utility of an arm, and every single run's."""

    arm: ArmKey
    epsilon: float | None
    where: Where
    metric: Metric
    mean: Estimate
    runs: tuple[float, ...]


class Gain(_Record):
    """Federated minus a reference: at the same epsilon, or a baseline that has none."""

    reference: ArmKey
    epsilon: float
    where: Where
    metric: Metric
    difference: Estimate


class Budget(_Record):
    """What a budget means for these hospitals, from public figures alone."""

    epsilon: float
    noise_multiplier: float
    signal_to_noise: float
    signal_to_noise_alone: float
    patients_for_comfort: int
    verdict: str


class PrivacyStudy(_Record):
    """All figures of one study."""

    command: str
    created: str
    seeds: tuple[int, ...]
    repeats: int
    hospitals: int
    patients_per_site: int
    trained_patients: int
    test_patients: dict[Where, int]
    parameters: int
    steps: int
    delta: float
    budgets: tuple[Budget, ...]
    utilities: tuple[Utility, ...]
    gains: tuple[Gain, ...]

    def utility(self, arm: ArmKey, epsilon: float | None, where: Where, metric: Metric) -> Utility:
        """One arm's utility."""
        for found in self.utilities:
            if (found.arm, found.epsilon, found.where, found.metric) == (
                arm, epsilon, where, metric,
            ):  # fmt: skip
                return found
        raise KeyError((arm, epsilon, where, metric))
