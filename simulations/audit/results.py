"""What an audit found: the frozen record that JSON, table and page are made from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from simulations.audit.inversion_study import Inversion
from simulations.audit.membership import Membership
from simulations.audit.verdict import Verdict


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GaussianEstimate(_Record):
    """Epsilon from two fitted normals: an estimate, no bound."""

    claimed_epsilon: float
    epsilon: float
    low: float = Field(description="95 % bootstrap interval over canaries")
    high: float
    separation: float = Field(description="of the means, in standard deviations")
    canaries: int
    members: tuple[float, ...] = Field(description="cosines of the canaries that trained")
    outsiders: tuple[float, ...] = Field(description="cosines of those that did not")


class Power(_Record):
    """The largest claim that ``canaries`` in one run can refute, by the share of right guesses."""

    canaries: int
    all_right: float
    nine_of_ten_right: float


class AuditReport(_Record):
    """One audit of the engine.

    ``engine`` are the attacks of the build's gate, ``plan`` those with the audited plan's own
    parameters, ``membership`` pairs without and with privacy.
    """

    format: int = 1
    command: str
    created: str
    version: str
    seed: int
    patients: int
    claimed_epsilon: float
    delta: float
    engine: tuple[Verdict, ...]
    plan: tuple[Verdict, ...]
    estimate: GaussianEstimate
    power: tuple[Power, ...]
    membership: tuple[Membership, ...]
    inversion: tuple[Inversion, ...]
    inversion_noise_multiplier: float
    passed: bool

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """All attacks that the gate looks at."""
        return self.engine + self.plan
