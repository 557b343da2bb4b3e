"""What the study of ConneX found, as its record holds it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Arm(BaseModel):
    """One trained classifier on one seed.

    Attributes:
        item: the question it belongs to.
        arm: its name within the question.
        seed: of anatomy and people.
        figures: what was measured, by name.
    """

    model_config = ConfigDict(frozen=True)

    item: str
    arm: str
    seed: int
    figures: dict[str, float]


class ConnexStudy(BaseModel):
    """All arms, and how they came about.

    Attributes:
        command: repeats the study.
        machine: processor, cores and versions.
        spec: sizes and effects of the cohorts.
        arms: in the order they were run.
        cpu_seconds: of this process.
    """

    model_config = ConfigDict(frozen=True)

    command: str
    machine: str
    spec: dict[str, float]
    arms: tuple[Arm, ...]
    cpu_seconds: float

    def of(self, item: str) -> tuple[Arm, ...]:
        """The arms of one question."""
        return tuple(arm for arm in self.arms if arm.item == item)
