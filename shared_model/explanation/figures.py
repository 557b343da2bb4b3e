"""What the explanation methods were measured to be worth, as the study writes it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_PACKAGED = Path(__file__).parent / "figures.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Part):
    """A mean over patients with its 95 % bootstrap interval over patients."""

    value: float
    low: float
    high: float


class LocalisationFigures(_Part):
    """Agreement with the truly atrophied regions; see :mod:`shared_model.explanation.measures`."""

    patients: int
    mass_over_chance: Interval
    worst: float
    rank: Interval
    pointing: Interval
    auprc: Interval
    iou: Interval


class Sameness(_Part):
    """Mean similarity of two maps of the same scans."""

    what: str
    scans: int
    spearman: float
    ssim: float


class MethodFigures(_Part):
    """One method: where it points, and whether it depends on what was learnt.

    Attributes:
        localisation: on patients with AD, with the trained model.
        everybody: on all test patients, whatever their diagnosis; the truth stays the same.
        random_labels: on patients with AD, with a model trained on shuffled labels.
        private: on patients with AD, with a model trained federated at ``epsilon`` of the study.
        cascade: similarity to the trained model's map when one more part of the weights at a time
            is shuffled, from the top; the last has every part shuffled.
        independent: the same for one part alone.
        repeated: two initial weights, same patients.
        reproduced: another architecture, same patients.
        against_random_labels, against_private: the trained model's map and that model's.
        outside, edge, edge_chance: shares of the map outside the brain and near its edge.
        deletion, insertion: areas; see :mod:`shared_model.explanation.faithfulness`.
    """

    method: str
    localisation: LocalisationFigures
    everybody: LocalisationFigures | None = None
    random_labels: LocalisationFigures | None = None
    private: LocalisationFigures | None = None
    cascade: tuple[Sameness, ...] = ()
    independent: tuple[Sameness, ...] = ()
    repeated: Sameness | None = None
    reproduced: Sameness | None = None
    against_random_labels: Sameness | None = None
    against_private: Sameness | None = None
    outside: float | None = None
    edge: float | None = None
    edge_chance: float | None = None
    deletion: Interval | None = None
    insertion: Interval | None = None


class Control(_Part):
    """How well a linear model reads the diagnosis off one kind of input, on test patients."""

    what: str
    patients: int
    balanced_accuracy: Interval


class Failure(_Part):
    """A patient with AD on whom the shipped default points elsewhere."""

    patient: str
    mass_over_chance: float
    predicted: str
    top_regions: tuple[str, ...]


class StudyFigures(_Part):
    """All figures of one study on synthetic patients."""

    command: str
    made: str
    machine: str
    seeds: tuple[int, ...]
    truth: tuple[str, ...]
    chance: float
    epsilon: float
    shipped: str
    methods: tuple[MethodFigures, ...]
    baselines: tuple[MethodFigures, ...]
    random_deletion: Interval | None = None
    random_insertion: Interval | None = None
    controls: tuple[Control, ...] = ()
    failures: tuple[Failure, ...] = ()
    balanced_accuracy: float
    balanced_accuracy_private: float

    def method(self, name: str) -> MethodFigures | None:
        """The figures of one method, if it was measured."""
        return next((found for found in self.methods if found.method == name), None)

    def bars(self, name: str) -> dict[str, bool]:
        """What a default must meet, by a sentence each, for one method."""
        figures = self.method(name)
        if figures is None:
            return {}
        mass = figures.localisation.mass_over_chance
        others = [b.localisation.mass_over_chance for b in self.baselines]
        return {
            "relevance mass at least 3 times chance (lower end of the interval)": mass.low >= 3,
            "above every baseline (intervals apart)": all(mass.low > b.high for b in others),
            "unlike itself (rank correlation below 0.5) once all weights are shuffled": bool(
                figures.cascade
            )
            and figures.cascade[-1].spearman < 0.5,
        }


@cache
def shipped_figures() -> StudyFigures:
    """The figures that this version was measured to have; docs/explanations.md explains them."""
    return StudyFigures.model_validate_json(_PACKAGED.read_bytes())
