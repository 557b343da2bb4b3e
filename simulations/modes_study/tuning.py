"""Which schedule a plan takes: the same small grid for two modes on cohorts no figure reports."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from simulations.experiments.seed_cohort import SeedCohort
from simulations.modes_study.cells import DESIGN, Cell
from simulations.modes_study.runs import kept_run, parameters
from simulations.modes_study.settings import DEMONSTRATION, ArmKey, ModesSettings, Schedule, over
from simulations.privacy_study.predicted import WHERE

#: Lengths that are tried up to a predicted S: the same for both modes.
_TRAVELS = ((1.5, (6.0, 12.0, 24.0)), (5.0, (12.0, 24.0, 48.0)), (math.inf, (24.0, 48.0, 96.0)))
#: Gradients are not clipped there: longer steps diverge.
_TRAVELS_WITHOUT_NOISE = (6.0, 12.0)
TUNED: tuple[ArmKey, ...] = ("local", "distributed")


def grid(arm: ArmKey, predicted: float | None) -> tuple[Schedule, ...]:
    """Three lengths of the study's steps; for mode ``local`` also the demonstration's schedule."""
    if predicted is None:
        return tuple(over(travel) for travel in _TRAVELS_WITHOUT_NOISE)
    out = tuple(over(t) for t in next(some for limit, some in _TRAVELS if predicted <= limit))
    return (*out, DEMONSTRATION) if arm == "local" else out


class Tried(BaseModel):
    """Mean over cohorts, noise repeats, and seen and unseen hospitals, four of which trained."""

    model_config = ConfigDict(frozen=True)

    arm: ArmKey
    epsilon: float | None
    predicted: float | None
    schedule: Schedule
    balanced_accuracy: float
    macro_auc: float


class Tuning(BaseModel):
    """Everything that one call tried."""

    model_config = ConfigDict(frozen=True)

    command: str
    seeds: tuple[int, ...]
    repeats: int
    tried: tuple[Tried, ...]


def tune(settings: ModesSettings, cohorts: Sequence[SeedCohort], folder: Path) -> Iterator[Tried]:
    """The grid without privacy, and for both modes at every epsilon."""
    cells = [Cell("none", None, DESIGN, 1)]
    cells += [Cell(arm, e, DESIGN, settings.repeats) for e in settings.epsilons for arm in TUNED]
    for cell in cells:
        predicted = cell.predicted(settings, parameters(cohorts[0]))
        for when in grid(cell.arm, predicted):
            runs = [
                kept_run(cell, settings, cohorts, index, when, repeat, folder).run
                for index in range(len(cohorts))
                for repeat in range(cell.repeats)
            ]
            accuracy, auc = (
                float(np.mean([run[w].utility(metric) for run in runs for w in WHERE]))
                for metric in ("balanced_accuracy", "macro_auc")
            )
            yield Tried(
                arm=cell.arm, epsilon=cell.epsilon, predicted=predicted,
                schedule=when, balanced_accuracy=accuracy, macro_auc=auc,
            )  # fmt: skip
