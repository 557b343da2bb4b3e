"""One attack held against its claim; a refutation counts when an independent run repeats it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from shared_model.errors import SmrfedError
from simulations.audit.claim import Claim
from simulations.audit.evidence import Evidence
from simulations.audit.noise_bound import epsilon_lower_bound

#: Of the bounds that are reported.
REPORTED_ERROR = 0.05
#: Chance that a gate with any number of attacks stops an honest engine.
FALSE_ALARM = 1e-4
_RUNS = 2

Tell = Callable[[float], None]


@dataclass(frozen=True)
class Attack:
    """An attack that can be run again with other randomness.

    Attributes:
        title: a few words.
        threat_model: what the attacker chooses, knows and sees.
        claim: what the attacked run claims.
        play: runs it with a seed, telling the share that is done.
    """

    title: str
    threat_model: str
    claim: Claim
    play: Callable[[int, Tell], Evidence] = field(repr=False)


class Verdict(BaseModel):
    """What one attack shows about its claim."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    threat_model: str
    noise_multiplier: float
    sampling_rate: float
    steps: int
    delta: float
    claimed_epsilon: float
    epsilon_at_least: float = Field(description="95 % lower bound for any mechanism")
    profile_epsilon_at_least: float = Field(
        description="95 % lower bound within the claim's family (other noise, same sampling)"
    )
    told: str = Field(description="the counts")
    runs: int = Field(description="1, or 2 where the first run refuted the claim")
    refuted: bool = Field(description="every run refuted the claim: the gate is closed")


def judge(attack: Attack, attacks: int, seed: int, tell: Tell = lambda _: None) -> Verdict:
    """Run an attack; when it refutes the claim, run it once more with fresh randomness.

    Each run may err with probability ``sqrt(FALSE_ALARM / attacks)`` and the runs are independent,
    so ``attacks`` of these together stop an honest engine with probability at most FALSE_ALARM.
    """
    error = math.sqrt(FALSE_ALARM / attacks)
    claim = attack.claim
    first = attack.play(seed, tell)
    refuted, runs = first.refutes(claim.profile, error), 1
    while refuted and runs < _RUNS:
        refuted = attack.play(seed + runs, tell).refutes(claim.profile, error)
        runs += 1
    return Verdict(
        title=attack.title,
        threat_model=attack.threat_model,
        noise_multiplier=claim.use.noise_multiplier,
        sampling_rate=claim.use.sampling_rate,
        steps=claim.use.steps,
        delta=claim.delta,
        claimed_epsilon=claim.epsilon,
        epsilon_at_least=first.epsilon_lower_bound(claim.delta, REPORTED_ERROR),
        profile_epsilon_at_least=epsilon_lower_bound(
            claim, lambda profile: first.refutes(profile, REPORTED_ERROR)
        ),
        told=first.told,
        runs=runs,
        refuted=refuted,
    )


def stop_if_refuted(verdicts: Sequence[Verdict]) -> None:
    """The build's gate: raise SMR-E650 when an attack refuted a claim, in every run of it."""
    broken = [verdict for verdict in verdicts if verdict.refuted]
    if broken:
        raise SmrfedError(
            "SMR-E650",
            "the training engine leaks more than the claimed epsilon allows",
            expected="; ".join(
                f"epsilon {verdict.claimed_epsilon:.3g} at delta {verdict.delta:g} "
                f"({verdict.title})"
                for verdict in broken
            ),
            found="; ".join(
                f"at least {verdict.profile_epsilon_at_least:.3g} ({verdict.told})"
                for verdict in broken
            ),
            remedy="release nothing that this engine trained; find the missing noise, clip or "
            "sampling with docs/audit.md",
        )
