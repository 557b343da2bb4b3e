"""The study as one JSON document: every figure of docs/distributed_privacy.md is in it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from simulations.modes_study.settings import ArmKey
from simulations.privacy_study.predicted import Metric, Where
from simulations.privacy_study.results import Estimate


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Row(_Record):
    """One arm at one budget with so many hospitals.

    ``predicted`` is S of the plan, an upper bound; ``measured`` is the norm of what noise repeats
    share over that of what differs, in the released parameters, a mean over cohorts; both None
    where there is no noise, ``measured`` also for hospitals alone. ``patients_needed``: training
    patients at each hospital for S = 10.
    """

    arm: ArmKey
    epsilon: float | None
    hospitals: int
    schedule: str
    noise_multiplier: float | None
    predicted: float | None
    measured: float | None
    patients_needed: int | None
    scores: dict[Where, dict[Metric, Estimate]]
    runs: dict[Where, tuple[float, ...]]


class Difference(_Record):
    """An arm minus mode ``local`` with the same hospitals at the same epsilon."""

    arm: ArmKey
    epsilon: float
    hospitals: int
    where: Where
    metric: Metric
    difference: Estimate


class ModesStudy(_Record):
    """All figures of one study."""

    command: str
    created: str
    seeds: tuple[int, ...]
    repeats: int
    patients_per_site: int
    test_patients: dict[Where, int]
    parameters: int
    delta: float
    hospitals_epsilon: float
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]

    def row(self, arm: ArmKey, epsilon: float | None, hospitals: int) -> Row | None:
        """One row, if it was run."""
        for row in self.rows:
            if (row.arm, row.epsilon, row.hospitals) == (arm, epsilon, hospitals):
                return row
        return None
