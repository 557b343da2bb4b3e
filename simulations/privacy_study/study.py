"""``smrfed-sim privacy``: cohorts, runs, figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from shared_model.metrics import Interval
from shared_model.plan import FederationPlan
from shared_model.privacy.signal_to_noise import patients_needed, signal_to_noise
from simulations.experiments.seed_cohort import SeedCohort, load_seed_cohort
from simulations.privacy_study.arms import ArmKey, StudyRun, count_runs, private_plan, study_runs
from simulations.privacy_study.intervals import Utilities
from simulations.privacy_study.predicted import WHERE, Metric
from simulations.privacy_study.results import Budget, Estimate, Gain, PrivacyStudy, Utility
from simulations.privacy_study.settings import StudySettings

_METRICS: tuple[Metric, ...] = ("balanced_accuracy", "macro_auc")


def run_study(settings: StudySettings, out: Path, console: Console, command: str) -> PrivacyStudy:
    """Train every arm on every cohort; what ``out`` holds from before is used again."""
    runs: list[StudyRun] = []
    columns = (
        TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("", total=count_runs(settings) * len(settings.seeds))
        for seed in settings.seeds:
            cohort = load_seed_cohort(
                settings.demo(seed, max(settings.epsilons)),
                out,
                lambda text: bars.update(task, description=text),
            )
            bars.update(task, description=f"seed {seed}: training")
            folder = out / "privacy" / f"cohort-{seed}"
            runs += study_runs(settings, cohort, folder, lambda: bars.advance(task))
        bars.update(task, description="intervals")
        return _figures(settings, cohort, runs, command)


def budget(plan: FederationPlan, parameters: int) -> Budget:
    """What a private plan can do at its numbers of patients."""
    found = signal_to_noise(plan, parameters)
    if found is None:
        raise ValueError("only a plan with noise has a budget")
    return Budget(
        epsilon=plan.privacy.epsilon,
        noise_multiplier=plan.privacy.noise_multiplier,
        signal_to_noise=found.federation,
        signal_to_noise_alone=sum(found.sites.values()) / len(found.sites),
        patients_for_comfort=patients_needed(plan, parameters),
        verdict=found.verdict,
    )


def _figures(
    settings: StudySettings, cohort: SeedCohort, runs: Sequence[StudyRun], command: str
) -> PrivacyStudy:
    utilities = Utilities(runs)
    parameters = sum(math.prod(value.shape) for value in cohort.initial.values())
    test = {w: len(runs[0].run[w].label) for w in WHERE}
    references: tuple[ArmKey, ...] = ("alone", "demographics", "prior_free")
    return PrivacyStudy(
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seeds=settings.seeds,
        repeats=settings.repeats,
        hospitals=len(cohort.members),
        patients_per_site=settings.patients_per_site,
        trained_patients=sum(len(h.train) for h in cohort.hospitals),
        test_patients=test,
        parameters=parameters,
        steps=cohort.plan.total_steps,
        delta=cohort.settings.delta,
        budgets=tuple(
            budget(private_plan(settings, cohort, epsilon), parameters)
            for epsilon in settings.epsilons
        ),
        utilities=tuple(
            Utility(
                arm=arm, epsilon=epsilon, where=where, metric=metric,
                mean=_estimate(utilities.mean(arm, epsilon, where, metric)),
                runs=utilities.single(arm, epsilon, where, metric),
            )
            for arm, epsilon in utilities.arms
            for where in WHERE
            for metric in _METRICS
        ),
        gains=tuple(
            Gain(
                reference=reference, epsilon=epsilon, where=where, metric=metric,
                difference=_estimate(
                    utilities.difference(
                        ("federated", epsilon),
                        (reference, None if reference == "demographics" else epsilon),
                        where,
                        metric,
                    )
                ),
            )
            for reference in references
            for epsilon in settings.epsilons
            for where in WHERE
            for metric in _METRICS
        ),
    )  # fmt: skip


def _estimate(interval: Interval) -> Estimate:
    return Estimate(value=interval.estimate, low=interval.low, high=interval.high)
