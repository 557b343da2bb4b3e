"""What the explanation methods were measured to be worth, as the study writes it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_PACKAGED = Path(__file__).parent / "figures.json"
#: A map whose likeness stays at this or above when weights are shuffled depends too little on them.
ALIKE = 0.5
#: Times chance, the least mass of a default's map on what is truly atrophied.
LEAST_MASS = 3


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Part):
    """A mean over patients with its 95 % bootstrap interval over patients."""

    value: float
    low: float
    high: float


class LocalisationFigures(_Part):
    """Agreement with the truly atrophied regions; see :mod:`shared_model.explanation.measures`.

    ``by_model`` has the mass over chance of each trained model, cohort by cohort: patients who are
    explained with one model share its luck. Empty where too few were measured.
    """

    patients: int
    by_model: tuple[float, ...] = ()
    mass_over_chance: Interval
    worst: float
    rank: Interval
    pointing: Interval
    auprc: Interval
    iou: Interval


class Sameness(_Part):
    """Mean similarity of two maps of the same scans.

    Attributes:
        spearman, ssim: see :mod:`shared_model.explanation.similarity`.
        elsewhere: mean SSIM once the second map's values were dealt out to regions at random, for
            maps that are even within regions: what SSIM gives maps that share nothing but values.
    """

    what: str
    scans: int
    spearman: Interval
    ssim: Interval
    elsewhere: float | None = None

    @property
    def brief(self) -> str:
        """Rank correlation / structural similarity, as tables have it."""
        return f"{self.spearman.value:.2f} / {self.ssim.value:.2f}"

    @property
    def unlike(self) -> bool:
        """Whether both likenesses are below 0.5, upper ends of their intervals included."""
        return max(self.spearman.high, self.ssim.high) < ALIKE


class MethodFigures(_Part):
    """One method: where it points, and whether it depends on what was learnt.

    Attributes:
        localisation: on patients with AD, with the trained model.
        everybody: on all test patients, whatever their diagnosis; the truth stays the same.
        random_labels: on patients with AD, with a model trained on shuffled labels.
        private: on patients with AD, with models trained federated at ``epsilon`` of the study;
            several per cohort, because every training draws its own noise.
        cascade: similarity to the trained model's map when one more part of the weights at a time
            is shuffled, from the top; the last has every part shuffled. Every scan has a shuffle of
            its own.
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
            f"relevance mass at least {LEAST_MASS} times chance (lower end of the interval)": (
                mass.low >= LEAST_MASS
            ),
            "above every baseline (intervals apart)": all(mass.low > b.high for b in others),
            "unlike itself once all weights are shuffled (rank correlation and structural "
            "similarity below 0.5, upper ends of the intervals)": bool(figures.cascade)
            and figures.cascade[-1].unlike,
        }

    def with_privacy(self, name: str) -> tuple[bool, str] | None:
        """Whether every private model's map has the mass asked for, and the masses in a sentence.

        No bar of its own: a private model's noise can leave it little to show.
        """
        figures = self.method(name)
        if figures is None or figures.private is None or not figures.private.by_model:
            return None
        masses = figures.private.by_model
        enough = sum(mass >= LEAST_MASS for mass in masses)
        return enough == len(masses), (
            f"at least {LEAST_MASS} times chance with every model trained federated with epsilon "
            f"{self.epsilon:g}: {enough} of {len(masses)} models, {min(masses):.1f} to "
            f"{max(masses):.1f} times"
        )

    def verdicts(self, name: str) -> dict[str, bool]:
        """The bars, and after them what holds of private models: what a reader must be told."""
        private = self.with_privacy(name)
        return self.bars(name) | ({} if private is None else {private[1]: private[0]})


@cache
def shipped_figures() -> StudyFigures:
    """The figures that this version was measured to have; docs/explanations.md explains them."""
    return StudyFigures.model_validate_json(_PACKAGED.read_bytes())
