"""A whole audit: the engine's gate, the plan's own parameters, membership and inversion."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from shared_model.plan import FederationPlan, PrivacyMode
from simulations.audit.engine_audit import engine_attacks, one_run_attack, repeated_attack
from simulations.audit.gaussian_fit import fit
from simulations.audit.gradient_game import GradientGame, Played, canary_plan, play
from simulations.audit.hospital_study import (
    AuditedHospital,
    everybody,
    make_patients,
    open_hospital,
    released_parameters,
)
from simulations.audit.inversion_study import InversionStudy, invert_updates
from simulations.audit.membership import Membership, membership
from simulations.audit.one_run import Guesses, epsilon_lower_bound, most_provable
from simulations.audit.page import write_page
from simulations.audit.patient_canaries import patient_canary_attack
from simulations.audit.patient_scores import loss_scores, update_scores
from simulations.audit.repeated_game import RepeatedGame
from simulations.audit.results import AuditReport, GaussianEstimate, Power
from simulations.audit.verdict import REPORTED_ERROR, Attack, judge
from simulations.report.storage import write_text_atomically

_BAR = 100  # steps of a bar whose work is told as a share
_MODE_NAMES: dict[PrivacyMode, str] = {"none": "without privacy", "local": "with privacy"}
_POWER = (50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class AuditSettings:
    """Sizes of an audit; the defaults of the command take minutes on two cores."""

    patients: int
    canaries: int
    epsilon: float
    seed: int
    workers: int
    command: str
    inversion_steps: int = 300
    draws: int = 200


def run_audit(settings: AuditSettings, out: Path, console: Console) -> AuditReport:
    """Run all attacks and write ``audit.json`` and ``audit.html`` to ``out``.

    Synthetic patients are kept under ``out/cohort``; hospital and coordinator live in a folder that
    is removed, because every audit spends the whole budget of its hospital. Never raises for a
    refuted claim: :func:`simulations.audit.verdict.stop_if_refuted` does.
    """
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    parties = Path(mkdtemp(dir=out, prefix=".parties-"))
    try:
        with _phase(console, "1/6 synthetic patients", settings.patients) as done:
            archive = make_patients(
                out / "cohort",
                settings.patients,
                settings.seed,
                settings.workers,
                lambda at, _total: done(at),
            )
        with _phase(console, "2/6 preparing scans", settings.patients) as done:
            hospital = open_hospital(
                archive,
                parties,
                patients=settings.patients,
                epsilon=settings.epsilon,
                seed=settings.seed,
                progress=lambda at, _total: done(at),
            )
        members = _membership(hospital, settings, parties / "runs", console)
        plan = hospital.plans["local"]
        canary, played = _gradient_canaries(plan, settings, console)
        attacks = engine_attacks()
        planned = (
            canary,
            _whole_plan(canary, settings),
            patient_canary_attack(hospital, "updates"),
            patient_canary_attack(hospital, "model"),
        )
        verdicts = []
        with _phase(console, "5/6 attacks on the claim", _BAR * len((*attacks, *planned))) as done:
            every = (*attacks, *planned)
            for index, attack in enumerate(every):
                tell = partial(_tell, done, index)
                verdicts.append(judge(attack, len(every), settings.seed, tell))
                done(_BAR * (index + 1))
        study = _inversion(plan, settings, console)
    finally:
        shutil.rmtree(parties, ignore_errors=True)
    report = AuditReport(
        command=settings.command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=version("smrfed"),
        seed=settings.seed,
        patients=settings.patients,
        claimed_epsilon=canary.claim.epsilon,
        delta=plan.privacy.delta,
        engine=tuple(verdicts[: len(attacks)]),
        plan=tuple(verdicts[len(attacks) :]),
        estimate=_estimate(played, canary),
        power=tuple(_power(count, plan.privacy.delta) for count in _POWER),
        membership=members,
        inversion=study.attacks,
        inversion_noise_multiplier=plan.privacy.noise_multiplier,
        passed=not any(verdict.refuted for verdict in verdicts),
    )
    write_text_atomically(out / "audit.json", report.model_dump_json(indent=1) + "\n")
    write_page(report, study.images, out / "audit.html")
    return report


def _membership(
    hospital: AuditedHospital, settings: AuditSettings, runs: Path, console: Console
) -> tuple[Membership, ...]:
    found = []
    count = len(hospital.members)
    modes: tuple[PrivacyMode, ...] = ("none", "local")
    rounds = hospital.plans["local"].training.rounds
    with _phase(console, "3/6 membership inference", 4 * rounds) as done:
        for index, mode in enumerate(modes):
            start = 2 * index * rounds
            bodies = released_parameters(hospital, mode, runs, partial(_from, done, start))
            follow = partial(_from, done, start + rounds)
            scored = {
                "final model": loss_scores(hospital.model, bodies[-1], everybody(hospital)),
                "all updates": update_scores(hospital.model, bodies, everybody(hospital), follow),
            }
            found += [
                membership(
                    f"{seen}, {_MODE_NAMES[mode]}", scores[:count], scores[count:], settings.seed
                )
                for seen, scores in scored.items()
            ]
    return tuple(found)


def _gradient_canaries(
    plan: FederationPlan, settings: AuditSettings, console: Console
) -> tuple[Attack, Played]:
    """The attack with the audited plan's noise, steps and sampling, and one run of it."""
    audited = canary_plan(
        plan.privacy.noise_multiplier,
        rounds=plan.training.rounds,
        local_steps=plan.training.local_steps,
        sampling_rate=plan.training.sampling_rate,
        declared_patients=plan.federation.sites[0].declared_patients,
        delta=plan.privacy.delta,
    )
    game = GradientGame(settings.canaries, way="own", seed=settings.seed + 1000)
    with _phase(console, "4/6 gradient canaries", audited.training.rounds) as done:
        played = play(audited, game, done)
    attack = one_run_attack(
        audited,
        game,
        "gradient canaries in one run",
        "chooses the model and the gradients of canary patients, sees the update of every round",
    )
    return attack, played


def _whole_plan(canary: Attack, settings: AuditSettings) -> Attack:
    """All steps of the plan with and without one patient, from independent trainings."""
    use = canary.claim.use
    plan = canary_plan(
        use.noise_multiplier,
        rounds=1,
        local_steps=use.steps,
        sampling_rate=use.sampling_rate,
        delta=canary.claim.delta,
    )
    game = RepeatedGame(
        draws=settings.draws, crowd=0, scans=1, way="loop", dimensions=64, seed=settings.seed
    )
    return repeated_attack(plan, game, "one patient, all steps, trained again and again")


def _tell(done: Callable[[int], None], index: int, share: float) -> None:
    done(round(_BAR * (index + share)))


def _from(done: Callable[[int], None], start: int, at: int, _total: int) -> None:
    done(start + at)


def _inversion(plan: FederationPlan, settings: AuditSettings, console: Console) -> InversionStudy:
    with _phase(console, "6/6 gradient inversion", 6 * settings.inversion_steps) as done:
        return invert_updates(
            plan.privacy.noise_multiplier,
            settings.seed,
            settings.inversion_steps,
            lambda at, _total: done(at),
        )


def _estimate(played: Played, canary: Attack) -> GaussianEstimate:
    fitted = fit(played.cosines, played.included, canary.claim.delta, 0)
    return GaussianEstimate(
        claimed_epsilon=canary.claim.epsilon,
        epsilon=fitted.epsilon,
        low=fitted.low,
        high=fitted.high,
        separation=fitted.separation,
        canaries=len(played.included),
        members=tuple(played.cosines[played.included].tolist()),
        outsiders=tuple(played.cosines[~played.included].tolist()),
    )


def _power(canaries: int, delta: float) -> Power:
    most = Guesses(canaries, canaries, round(0.9 * canaries))
    return Power(
        canaries=canaries,
        all_right=most_provable(canaries, delta, REPORTED_ERROR),
        nine_of_ten_right=epsilon_lower_bound(most, delta, REPORTED_ERROR),
    )


@contextmanager
def _phase(console: Console, name: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar of ``total`` steps; call the result with the number of steps done."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(name, total=total)
        yield lambda count: bars.update(task, completed=count)
