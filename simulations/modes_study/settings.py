"""What ``smrfed-sim modes-study`` runs: arms, budgets, numbers of hospitals, tuned schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shared_model.plan import PrivacyMode
from shared_model.privacy.section import PrivacyUnit
from simulations.demo.settings import DemoSettings

ArmKey = Literal[
    "none", "alone", "local", "distributed", "distributed_trusting", "central", "hospital"
]


@dataclass(frozen=True)
class Arm:
    """A privacy mode with the trust that it stands on."""

    mode: PrivacyMode
    title: str
    colluding: int = 0
    unit: PrivacyUnit = "patient"


ARMS: dict[ArmKey, Arm] = {
    "none": Arm("none", "no privacy"),
    "alone": Arm("local", "each hospital alone"),
    "local": Arm("local", "local"),
    "distributed": Arm("distributed", "distributed, one hospital may collude", colluding=1),
    "distributed_trusting": Arm("distributed", "distributed, none colludes"),
    "central": Arm("central", "central"),
    "hospital": Arm("central", "whole hospitals (central)", unit="hospital"),
}


@dataclass(frozen=True)
class Schedule:
    """Rounds, local steps in each, and the learning rate of a step."""

    rounds: int
    local_steps: int
    learning_rate: float

    def __str__(self) -> str:
        steps = "step" if self.local_steps == 1 else "steps"
        return (
            f"{self.rounds} rounds of {self.local_steps} {steps}, "
            f"learning rate {self.learning_rate:g}"
        )


#: Cohorts on which schedules are chosen; no figure reports them.
TUNING = (101, 102, 103)
#: Of ``smrfed-sim demo`` with privacy.
DEMONSTRATION = Schedule(30, 2, 0.4)


class ModesSettings(BaseModel):
    """Cohorts, budgets and repeats; the defaults are the hospitals of scenario ``default``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patients_per_site: int = Field(default=96, ge=12, description="at each hospital")
    unseen_patients: int = Field(default=64, ge=12, description="at the hospital left out")
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1, description="one cohort each")
    epsilons: tuple[float, ...] = Field(default=(1.0, 3.0, 8.0), min_length=1)
    hospitals: tuple[int, ...] = Field(
        default=(2, 4, 8), description="above 4, those of the next cohorts join"
    )
    hospitals_epsilon: float = Field(default=1.0, gt=0, description="of that comparison")
    repeats: int = Field(default=3, ge=1, description="private runs per cohort: other noise each")
    workers: int = Field(default=2, ge=1, description="processes that generate patients")

    def demo(self, seed: int) -> DemoSettings:
        """The demonstration's settings for one cohort."""
        return DemoSettings(
            patients_per_site=self.patients_per_site,
            unseen_patients=self.unseen_patients,
            seed=seed,
            workers=self.workers,
        )

    @property
    def command_line(self) -> str:
        """The command that repeats this study; options that have their default are left out."""
        default, words = ModesSettings(), ["smrfed-sim modes-study"]
        for option, name in (
            ("--epsilon", "epsilons"),
            ("--seed", "seeds"),
            ("--hospitals", "hospitals"),
        ):
            if getattr(self, name) != getattr(default, name):
                words += [f"{option} {value:g}" for value in getattr(self, name)]
        for option, name in (
            ("--hospitals-epsilon", "hospitals_epsilon"),
            ("--patients", "patients_per_site"),
            ("--unseen", "unseen_patients"),
            ("--repeats", "repeats"),
        ):
            if getattr(self, name) != getattr(default, name):
                words.append(f"{option} {getattr(self, name):g}")
        return " ".join(words)


#: Steps of every arm. Each uses all patients, so S does not depend on their number.
ROUNDS = 30
#: Steps times learning rate up to a predicted S: the less noise, the further a model may go.
_TRAVEL = ((1.5, 12.0), (3.0, 24.0), (math.inf, 48.0))
_TRAVEL_WITHOUT_NOISE = 12.0


def schedule(predicted: float | None) -> Schedule:
    """The schedule of a plan by its predicted S, the same for every mode; none: without noise.

    Found on cohorts that no figure reports (``--tune``), with modes ``local`` and ``distributed``.
    """
    if predicted is None:
        return over(_TRAVEL_WITHOUT_NOISE)
    return over(next(travel for limit, travel in _TRAVEL if predicted <= limit))


def over(travel: float) -> Schedule:
    """All steps of the study, over so much learning rate altogether."""
    return Schedule(ROUNDS, 1, travel / ROUNDS)
