"""What ``smrfed-sim privacy`` runs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from simulations.demo.settings import DemoSettings


class StudySettings(BaseModel):
    """Cohorts, budgets and repeats; the defaults are the cohorts of ``smrfed-sim recorded-run``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patients_per_site: int = Field(default=96, ge=12, description="at each of the four hospitals")
    unseen_patients: int = Field(default=64, ge=12, description="at the hospital left out")
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1, description="one cohort each")
    epsilons: tuple[float, ...] = Field(default=(1.0, 3.0, 8.0), min_length=1)
    repeats: int = Field(default=6, ge=1, description="private runs per cohort: other noise each")
    workers: int = Field(default=2, ge=1, description="processes that generate patients")

    def demo(self, seed: int, epsilon: float) -> DemoSettings:
        """The demonstration's settings for one cohort and budget."""
        return DemoSettings(
            patients_per_site=self.patients_per_site,
            unseen_patients=self.unseen_patients,
            seed=seed,
            epsilon=epsilon,
            workers=self.workers,
        )

    @property
    def command_line(self) -> str:
        """The command that repeats this study; options that have their default are left out."""
        default = StudySettings()
        words = ["smrfed-sim privacy"]
        if self.epsilons != default.epsilons:
            words += [f"--epsilon {value:g}" for value in self.epsilons]
        if self.seeds != default.seeds:
            words += [f"--seed {value}" for value in self.seeds]
        for option, name in (
            ("--patients", "patients_per_site"),
            ("--unseen", "unseen_patients"),
            ("--repeats", "repeats"),
        ):
            if getattr(self, name) != getattr(default, name):
                words.append(f"{option} {getattr(self, name)}")
        return " ".join(words)
