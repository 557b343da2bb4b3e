"""Run everything and turn it into figures with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from shared_model.metrics import Interval
from simulations.experiments.seed_cohort import SeedCohort, load_seed_cohort
from simulations.modes_study.cells import DESIGN, Cell, cells, run_name
from simulations.modes_study.results import Difference, ModesStudy, Row
from simulations.modes_study.runs import ModeRun, parameters, signal_and_noise, study_runs
from simulations.modes_study.settings import ArmKey, ModesSettings
from simulations.privacy_study.intervals import Utilities
from simulations.privacy_study.predicted import Metric, Where
from simulations.privacy_study.results import Estimate

_METRICS: tuple[Metric, ...] = ("balanced_accuracy", "macro_auc")
_WHERE: tuple[Where, ...] = ("seen", "unseen", "first")
_COMPARED: tuple[ArmKey, ...] = ("distributed", "distributed_trusting", "central", "alone")
_DRAWS = 500


def run_study(settings: ModesSettings, out: Path, console: Console) -> ModesStudy:
    """Train every arm on every cohort; what ``out`` holds from before is used again."""
    columns = (
        TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as bars:
        total = len(settings.seeds) * sum(cell.repeats for cell in cells(settings))
        task = bars.add_task("", total=total)
        cohorts = [
            load_seed_cohort(
                settings.demo(seed), out, lambda text: bars.update(task, description=text)
            )
            for seed in settings.seeds
        ]
        bars.update(task, description="training")
        done = list(study_runs(settings, cohorts, out / "modes", lambda: bars.advance(task)))
        bars.update(task, description="intervals")
        return figures(settings, cohorts, done)


def figures(
    settings: ModesSettings, cohorts: Sequence[SeedCohort], runs: Sequence[ModeRun]
) -> ModesStudy:
    """Means, intervals, differences to mode ``local``, and S beside what was measured."""
    utilities = Utilities[str](runs, draws=_DRAWS, unbiased=True)
    numbers = parameters(cohorts[0])
    first = [run for run in runs if run.arm == run_name("none", DESIGN)]
    return ModesStudy(
        command=settings.command_line,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seeds=settings.seeds,
        repeats=settings.repeats,
        patients_per_site=settings.patients_per_site,
        test_patients={w: sum(len(run.run[w].label) for run in first) for w in _WHERE},
        parameters=numbers,
        delta=settings.demo(0).delta,
        hospitals_epsilon=settings.hospitals_epsilon,
        rows=tuple(_row(settings, cell, runs, utilities, numbers) for cell in cells(settings)),
        differences=tuple(
            Difference(
                arm=cell.arm, epsilon=cell.epsilon, hospitals=cell.hospitals, where=where,
                metric=metric,
                difference=_estimate(
                    utilities.difference(
                        (cell.name, cell.epsilon), (run_name("local", against), cell.epsilon),
                        where, metric,
                    )
                ),
            )
            for cell in cells(settings)
            if cell.arm in _COMPARED and cell.epsilon is not None
            for against in [DESIGN if cell.arm == "alone" else cell.hospitals]
            if any(c.name == run_name("local", against) and c.epsilon == cell.epsilon
                   for c in cells(settings))
            for where in _WHERE
            for metric in _METRICS
        ),
    )  # fmt: skip


def _row(
    settings: ModesSettings,
    cell: Cell,
    runs: Sequence[ModeRun],
    utilities: Utilities[str],
    numbers: int,
) -> Row:
    own = [run for run in runs if (run.arm, run.epsilon) == (cell.name, cell.epsilon)]
    noise, measured = None, None
    if cell.epsilon is not None:
        noise = cell.plan(settings).privacy.noise_multiplier
        if cell.arm != "alone" and cell.repeats > 1:
            by_seed = [[run for run in own if run.seed == seed] for seed in settings.seeds]
            measured = fmean(s / n for s, n in map(signal_and_noise, by_seed))
    return Row(
        arm=cell.arm, epsilon=cell.epsilon, hospitals=cell.hospitals,
        schedule=str(cell.schedule(settings, numbers)), noise_multiplier=noise,
        predicted=cell.predicted(settings, numbers), measured=measured,
        patients_needed=cell.patients_needed(settings, numbers),
        scores={
            where: {
                metric: _estimate(utilities.mean(cell.name, cell.epsilon, where, metric))
                for metric in _METRICS
            }
            for where in _WHERE
        },
        runs={
            where: utilities.single(cell.name, cell.epsilon, where, "balanced_accuracy")
            for where in _WHERE
        },
    )  # fmt: skip


def _estimate(interval: Interval) -> Estimate:
    return Estimate(value=interval.estimate, low=interval.low, high=interval.high)
