"""What a scenario found: typed, frozen, in JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shared_model.evaluation.results import Estimate
from simulations.scenarios.schema import ArmKind

Verdict = Literal["higher", "lower", "not shown"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HospitalRow(_Record):
    """One hospital of the cohort; patients are those of each seed."""

    name: str
    patients: int
    prevalence: tuple[float, ...] | None = Field(description="of the cohort's labels, in order")
    age_shift: float | None = Field(description="years")
    scanner: str


class GroupFigure(_Record):
    """One arm on one group: ``seen``, ``unseen``, ``worst-seen``, or ``seen:SITE``."""

    balanced_accuracy: Estimate
    macro_auc: Estimate | None = Field(description="of seen and unseen only")
    by_seed: tuple[float | None, ...] = Field(description="balanced accuracy of single cohorts")
    patients: int = Field(description="tested patients over all seeds")
    site: str | None = Field(default=None, description="the hospital that is worst")


class ArmFigures(_Record):
    """One arm."""

    name: str
    title: str
    what: str
    kind: ArmKind
    epsilon: float | None
    repeats: int
    plan: str = Field(description="digest of its plan for the first seed and federation")
    groups: dict[str, GroupFigure]


class Difference(_Record):
    """An arm minus another in balanced accuracy, on the same patients and draws."""

    arm: str
    minus: str
    where: str
    difference: Estimate
    by_seed: tuple[float | None, ...]
    p_value: float | None
    p_holm: float | None = Field(description="Holm's correction over all differences printed")
    verdict: Verdict


class ScenarioResults(_Record):
    """Everything that the table, the page and the record of a scenario show."""

    format: Literal[1] = 1
    scenario: str
    title: str
    about: str
    command: str
    created: str
    commit: str | None
    smrfed: str
    seeds: tuple[int, ...]
    folds: tuple[tuple[str, ...], ...] = Field(description="hospitals that are left out together")
    draws: int
    labels: tuple[str, ...]
    hospitals: tuple[HospitalRow, ...]
    arms: tuple[ArmFigures, ...]
    differences: tuple[Difference, ...]
    readings: tuple[str, ...] = Field(
        default=(), description="the differences in words; where a change does not help, first"
    )

    def arm(self, name: str) -> ArmFigures:
        """One arm by name."""
        return next(arm for arm in self.arms if arm.name == name)
