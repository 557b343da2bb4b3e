"""What an evaluation holds beyond predictions: embeddings, corrupted scans, attacks; typed."""

from __future__ import annotations

from pydantic import Field

from shared_model.evaluation.estimate import Estimate, Record


class ProbedClass(Record):
    """The probe of the site within one class."""

    label: str
    sites: tuple[str, ...]
    patients: int
    accuracy: float


class SiteProbeFigures(Record):
    """How well a linear probe tells the hospital from the embedding, the diagnosis taken out."""

    arm: str
    model: str = Field(description="one embedding space; empty where there is one model only")
    patients: int
    trained_on: int = Field(description="of them, patients that the model was trained on")
    sites: int
    within: Estimate = Field(description="mean over classes of the probe within a class")
    within_chance: float | None
    pooled: Estimate = Field(description="one probe over all patients, class means taken off")
    pooled_chance: float | None
    by_class: tuple[ProbedClass, ...]


class CorruptionFigures(Record):
    """One arm on scans that were made worse in one way; severity 0 is the scan as it is."""

    arm: str
    where: str = Field(description="seen or unseen")
    kind: str
    severity: int
    patients: int | None = Field(description="None where suppressed")
    suppressed: bool = Field(description="a class has fewer than 20 patients")
    balanced_accuracy: Estimate
    change: Estimate = Field(description="of it against severity 0, on the same draws")
    negative_log_likelihood: Estimate


class Recalibration(Record):
    """The headline arm with a temperature fitted at each hospital on its other patients."""

    where: str
    patients: int
    temperature: dict[str, float | None] = Field(description="by hospital, on all its patients")
    before: dict[str, Estimate] = Field(description="negative_log_likelihood and ece")
    after: dict[str, Estimate]


class AttackRate(Record):
    """Members found while few outsiders are taken for members."""

    false_positive_rate: float
    true_positive_rate: Estimate
    resolved: bool = Field(description="enough outsiders for the rate to allow one of them")


class Attack(Record):
    """One membership attack; without figures where too few took part."""

    title: str
    members: int | None
    outsiders: int | None
    suppressed: bool
    auroc: Estimate
    rates: tuple[AttackRate, ...]


class Audit(Record):
    """An audit of this software's privacy: what it claimed, and what attacks could show."""

    command: str
    smrfed: str
    patients: int
    claimed_epsilon: float
    delta: float
    epsilon_at_least: float = Field(description="largest 95 % lower bound of any attack")
    refuted: bool
    attacks: tuple[Attack, ...]
