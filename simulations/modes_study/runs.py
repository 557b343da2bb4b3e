"""One run of the study: an arm with as many hospitals on one cohort, kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays
from simulations.arms.arm import predict_everywhere
from simulations.arms.hospital import Hospital
from simulations.arms.train_rounds import train_rounds
from simulations.evaluation.predictions import Predictions
from simulations.experiments.seed_cohort import SeedCohort
from simulations.federation.plain_sum import run_plain_sum
from simulations.modes_study.cells import DESIGN, Cell, cells
from simulations.modes_study.plans import study_plan
from simulations.modes_study.settings import ModesSettings, Schedule
from simulations.privacy_study.arms import train_alone
from simulations.privacy_study.predicted import Predicted, Run, keep, kept

Moved = npt.NDArray[np.float64]
#: The hospitals of a cohort that are in every federation, however small.
ALWAYS = 2


@dataclass(frozen=True, eq=False)
class ModeRun:
    """One training on one cohort with one draw of the noise; no epsilon: without privacy.

    ``name`` tells arm and number of hospitals; ``moved`` is how far the released parameters are
    from the public ones, ``(d,)``, none for hospitals alone.
    """

    seed: int
    arm: str
    epsilon: float | None
    repeat: int
    run: Run
    moved: Moved | None


def study_runs(
    settings: ModesSettings,
    cohorts: Sequence[SeedCohort],
    folder: Path,
    done: Callable[[], None] = lambda: None,
) -> Iterator[ModeRun]:
    """Every run; those that ``folder`` holds from before are not repeated."""
    for index, cohort in enumerate(cohorts):
        for cell in cells(settings):
            when = cell.schedule(settings, parameters(cohort))
            for repeat in range(cell.repeats):
                yield kept_run(cell, settings, cohorts, index, when, repeat, folder)
                done()


def parameters(cohort: SeedCohort) -> int:
    """How many numbers train."""
    return sum(value.size for value in cohort.initial.values())


def kept_run(
    cell: Cell,
    settings: ModesSettings,
    cohorts: Sequence[SeedCohort],
    index: int,
    when: Schedule,
    repeat: int,
    folder: Path,
) -> ModeRun:
    """One run, from ``folder`` if it is there, else made and put there."""
    cohort = cohorts[index]
    seed = cohort.settings.seed
    path = folder / f"cohort-{seed}" / _file(cell, when, settings, repeat, cohorts, index)
    found = kept(path)
    moved = _kept_moved(path)
    if found is None:
        found, moved = one_run(cell, settings, cohorts, index, when)
        _keep_moved(path, moved)
        keep(path, found)
    return ModeRun(seed, cell.name, cell.epsilon, repeat, _with_first(found, cohort), moved)


def one_run(
    cell: Cell,
    settings: ModesSettings,
    cohorts: Sequence[SeedCohort],
    index: int,
    when: Schedule,
) -> tuple[Run, Moved | None]:
    """Train one arm and test it at the cohort's own hospitals and at the unseen one."""
    cohort = cohorts[index]
    members = _members(cohorts, index, cell.hospitals if cell.arm != "alone" else DESIGN)
    sizes = dict.fromkeys((name for name, _ in members), settings.patients_per_site)
    if cell.arm == "alone":
        own = {hospital.name: settings.patients_per_site for _, hospital in members}
        plan = study_plan("alone", cell.epsilon, settings.demo(cohort.settings.seed), own, when)
        return train_alone(cohort, plan)["alone"], None
    plan = study_plan(cell.arm, cell.epsilon, settings.demo(cohort.settings.seed), sizes, when)
    shared = trained(cohort, plan, members)
    tested = [h for _, h in members if h in cohort.hospitals]
    tested += [h for h in cohort.hospitals if h.held_out]
    predictions = predict_everywhere(cohort.model, shared, tested)
    run: Run = {
        "seen": _joined([predictions[h.name] for h in tested if not h.held_out]),
        "unseen": _joined([predictions[h.name] for h in tested if h.held_out]),
    }
    moved = np.concatenate(
        [(shared[n] - v).ravel().astype(np.float64) for n, v in cohort.initial.items()]
    )
    return run, moved


def trained(
    cohort: SeedCohort, plan: FederationPlan, members: Sequence[tuple[str, Hospital]]
) -> Arrays:
    """The released parameters; a secure sum goes without masks, which change no bit of it."""
    examples = {name: hospital.train for name, hospital in members}
    if plan.privacy.summed:
        return dict(run_plain_sum(plan, cohort.model, examples, dict(cohort.initial)).released)
    return train_rounds(cohort.model, dict(cohort.initial), examples, plan)


def _members(cohorts: Sequence[SeedCohort], index: int, count: int) -> list[tuple[str, Hospital]]:
    """The first hospitals of a cohort, then those of the cohorts after it: same scanners, other
    patients. Names tell the cohort.
    """
    out = []
    for step in range(len(cohorts)):
        cohort = cohorts[(index + step) % len(cohorts)]
        seed = cohort.settings.seed
        out += [(f"{h.name}-{seed}", h) for h in cohort.hospitals if not h.held_out]
    if len(out) < count:
        raise ValueError(f"{count} hospitals need more cohorts than {len(cohorts)}")
    return out[:count]


def _joined(parts: list[Predictions]) -> Predicted:
    return Predicted.of([Predictions.join(parts)])


def _with_first(run: Run, cohort: SeedCohort) -> Run:
    """Adds the test patients of the hospitals that are in every federation: they come first."""
    rows = sum(len(h.test) for h in [h for h in cohort.hospitals if not h.held_out][:ALWAYS])
    seen = run["seen"]
    return {**run, "first": Predicted(seen.label[:rows], seen.probability[:, :rows])}


def _file(
    cell: Cell,
    when: Schedule,
    settings: ModesSettings,
    repeat: int,
    cohorts: Sequence[SeedCohort],
    index: int,
) -> str:
    """Names everything that the run depends on, but the cohort in whose folder it lies."""
    budget = "none" if cell.epsilon is None else f"{cell.epsilon:g}"
    steps = f"{when.rounds}x{when.local_steps}x{when.learning_rate:.4g}"
    people = f"{settings.patients_per_site}-{settings.unseen_patients}"
    members = _members(cohorts, index, max(cell.hospitals, DESIGN))[DESIGN:]
    others = dict.fromkeys(name.rsplit("-", 1)[1] for name, _ in members)
    joined = "".join(f"-with-{seed}" for seed in others)
    return f"{cell.name}-{budget}-{steps}-{people}{joined}-{repeat}.npz"


def _keep_moved(path: Path, moved: Moved | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if moved is not None:
        np.save(path.with_suffix(".npy"), moved)


def _kept_moved(path: Path) -> Moved | None:
    file = path.with_suffix(".npy")
    return np.load(file) if file.exists() else None


def signal_and_noise(runs: Sequence[ModeRun]) -> tuple[float, float]:
    """Norms of what repeats share, and of what differs, in the movement of the parameters.

    Runs of one arm and cohort. The mean of R repeats holds 1/R of the noise's square, taken away.
    """
    moved = np.stack([run.moved for run in runs if run.moved is not None])
    mean = moved.mean(axis=0)
    noise = float(((moved - mean) ** 2).sum() / max(len(moved) - 1, 1))
    signal = float((mean**2).sum()) - noise / len(moved)
    return max(signal, 0.0) ** 0.5, noise**0.5
