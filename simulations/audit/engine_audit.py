"""The build's gate: six quick attacks that see the known ways in which a DP engine goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shared_model.plan import FederationPlan
from simulations.audit.claim import Claim
from simulations.audit.evidence import OneRunEvidence, RepeatedEvidence
from simulations.audit.gradient_game import GradientGame, canary_plan, play
from simulations.audit.repeated_game import RepeatedGame, draw
from simulations.audit.verdict import Attack, Tell, Verdict, judge, stop_if_refuted

_WORST_CASE = (
    "chooses model, plan and every patient, knows all of them but one, sees the update of the round"
)


def one_run_attack(
    plan: FederationPlan, game: GradientGame, title: str, threat_model: str
) -> Attack:
    """Gradient canaries in one run of a plan."""

    def run(seed: int, tell: Tell) -> OneRunEvidence:
        rounds = plan.training.rounds
        seeded = GradientGame(**{**vars(game), "seed": seed})
        return OneRunEvidence(play(plan, seeded, lambda done: tell(done / rounds)))

    return Attack(title, threat_model, Claim.of(plan), run)


def repeated_attack(
    plan: FederationPlan, game: RepeatedGame, title: str, threat_model: str = _WORST_CASE
) -> Attack:
    """Many trainings of one round with and without a patient."""

    def run(seed: int, tell: Tell) -> RepeatedEvidence:
        seeded = RepeatedGame(**{**vars(game), "seed": seed})
        return RepeatedEvidence(draw(plan, seeded, lambda done: tell(done / (2 * game.draws))))

    return Attack(title, threat_model, Claim.of(plan), run)


def engine_attacks() -> tuple[Attack, ...]:
    """The attacks of the gate, with sizes that each known mistake shows at (docs/audit.md)."""
    return (
        one_run_attack(
            canary_plan(4.0, rounds=4, local_steps=4),
            GradientGame(canaries=300, way="own"),
            "canaries in one run, tokens",
            "inserts canary patients with chosen gradients, sees the update of every round",
        ),
        # Noise or clip missing; noise divided by the number of patients who came.
        repeated_attack(
            canary_plan(1.5, rounds=1),
            RepeatedGame(draws=60, crowd=6, scans=1, way="loop"),
            "one patient against a crowd",
        ),
        # Noise once a round, less noise than claimed, scans clipped one by one.
        repeated_attack(
            canary_plan(2.5, rounds=1, local_steps=6),
            RepeatedGame(draws=160, crowd=0, scans=4, way="loop", dimensions=64),
            "one patient with four scans, six steps",
        ),
        repeated_attack(
            canary_plan(0.3, rounds=1, sampling_rate=0.1),
            RepeatedGame(draws=600, crowd=0, scans=1, way="loop", dimensions=64),
            "one patient at sampling rate 0.1",
        ),
        # A count of clipped patients that steers the norm without noise.
        repeated_attack(
            canary_plan(2.5, rounds=1, local_steps=6, declared_patients=2, adaptive=True),
            RepeatedGame(draws=100, crowd=0, scans=1, way="loop", dimensions=256),
            "one patient under adaptive clipping",
        ),
        # Noise or step left out when a gradient is not finite.
        repeated_attack(
            canary_plan(1.5, rounds=1),
            RepeatedGame(draws=60, crowd=2, poison=True, way="loop", dimensions=64),
            "one patient whose gradient is not a number",
        ),
    )


def audit_engine(
    attacks: Sequence[Attack] | None = None,
    seed: int = 0,
    tell: Callable[[str, float], None] = lambda _title, _share: None,
) -> tuple[Verdict, ...]:
    """Run the gate's attacks on the engine that is installed, and return their verdicts.

    An honest engine is stopped with probability at most 1e-4 (:mod:`simulations.audit.verdict`);
    :func:`stop_if_refuted` makes an error of a refuted claim.
    """
    chosen = tuple(attacks) if attacks is not None else engine_attacks()
    return tuple(
        judge(attack, len(chosen), seed, lambda share, title=attack.title: tell(title, share))  # type: ignore[misc]
        for attack in chosen
    )


def gate(seed: int = 0, attacks: Sequence[Attack] | None = None) -> None:
    """For continuous integration: raise SMR-E650 when the engine leaks more than it claims."""
    stop_if_refuted(audit_engine(attacks, seed))
