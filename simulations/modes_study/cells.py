"""What is run with every cohort, each with the plan that its hospitals would follow."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from shared_model.plan import FederationPlan
from shared_model.privacy.signal_to_noise import patients_needed, signal_to_noise
from simulations.modes_study.plans import study_plan
from simulations.modes_study.settings import ArmKey, ModesSettings, Schedule, over, schedule

#: Hospitals of the shipped design that train.
DESIGN = 4


@dataclass(frozen=True)
class Cell:
    """What is run with every cohort: an arm, its budget, how many hospitals, how often."""

    arm: ArmKey
    epsilon: float | None
    hospitals: int
    repeats: int

    @property
    def name(self) -> str:
        """Arm and number of hospitals, as runs are named."""
        return run_name(self.arm, self.hospitals)

    def plan(self, settings: ModesSettings) -> FederationPlan:
        """The plan for as many hospitals of the study's size; its schedule is any."""
        return _plan(self, settings)

    def predicted(self, settings: ModesSettings, parameters: int) -> float | None:
        """S of the plan that trains ``parameters`` numbers; alone: of one hospital."""
        if self.epsilon is None:
            return None
        found = signal_to_noise(self.plan(settings), parameters)
        return None if found is None else found.federation

    def patients_needed(self, settings: ModesSettings, parameters: int) -> int | None:
        """At each hospital for a comfortable S; none: without noise, and for whole hospitals."""
        if self.epsilon is None or self.arm == "hospital":
            return None
        return patients_needed(self.plan(settings), parameters)

    def schedule(self, settings: ModesSettings, parameters: int) -> Schedule:
        """What the study gives it, by its S."""
        return schedule(self.predicted(settings, parameters))


@functools.cache
def _plan(cell: Cell, settings: ModesSettings) -> FederationPlan:
    members = {f"h{k}": settings.patients_per_site for k in range(cell.hospitals)}
    return study_plan(cell.arm, cell.epsilon, settings.demo(0), members, over(1.0))


def run_name(arm: ArmKey, hospitals: int) -> str:
    """The name of an arm with so many hospitals."""
    return f"{arm}@{hospitals}"


def cells(settings: ModesSettings) -> tuple[Cell, ...]:
    """Everything that is run with every cohort, each once."""
    out: dict[tuple[str, float | None], Cell] = {}

    def add(arm: ArmKey, epsilon: float | None, hospitals: int) -> None:
        repeats = 1 if epsilon is None else settings.repeats
        cell = Cell(arm, epsilon, hospitals, repeats)
        out.setdefault((cell.name, epsilon), cell)

    modes: tuple[ArmKey, ...] = ("local", "distributed", "central")
    add("none", None, DESIGN)
    for epsilon in settings.epsilons:
        for arm in ("alone", *modes):
            add(arm, epsilon, 1 if arm == "alone" else DESIGN)
    add("hospital", max(settings.epsilons), DESIGN)
    add("alone", settings.hospitals_epsilon, 1)
    for count in settings.hospitals:
        add("none", None, count)
        for arm in (*modes, "distributed_trusting"):
            add(arm, settings.hospitals_epsilon, count)
    return tuple(out.values())
