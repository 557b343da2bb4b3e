"""What one federation run found: the typed, frozen record that the HTML report is drawn from."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared_model.plan import FederationPlan

SEEN = "seen"
UNSEEN = "unseen"

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
PlaneName = Literal["sagittal", "coronal", "axial"]
ArmRole = Literal[
    "prior", "demographics", "region_volumes", "alone", "federated", "pooled", "shuffled"
]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Versions(_Record):
    """Releases of the software that made the numbers."""

    smrfed: str
    torch: str
    flwr: str
    python: str


class PlanSummary(_Record):
    """The figures of the plan that a reader of the report needs."""

    name: str
    digest: str
    mode: str = Field(description="privacy mode of the plan")
    unit: str = Field(default="patient", description="what the guarantee protects")
    neighbouring: str = "add or remove one patient with all scans and visits"
    target_epsilon: float | None = Field(description="budget; None without privacy")
    delta: float | None
    noise_multiplier: NonNegative
    sampling_rate: Fraction
    steps: Count = Field(description="noised optimiser steps per site over the plan")
    clipping_norm: Positive
    rounds: Count
    site_norm: str

    @classmethod
    def of(cls, plan: FederationPlan) -> Self:
        """The summary of a federation plan."""
        private = plan.privacy.mode != "none"
        return cls(
            name=plan.name,
            digest=plan.digest,
            mode=plan.privacy.mode,
            target_epsilon=plan.privacy.epsilon if private else None,
            delta=plan.privacy.delta if private else None,
            noise_multiplier=plan.privacy.noise_multiplier,
            sampling_rate=plan.training.sampling_rate,
            steps=plan.total_steps,
            clipping_norm=plan.privacy.clipping_norm,
            rounds=plan.training.rounds,
            site_norm=plan.adaptation.site_norm,
        )


class Phase(_Record):
    """One part of the run and how long it took."""

    name: str
    seconds: NonNegative


class RunFacts(_Record):
    """Where the numbers come from."""

    title: str
    command: str = Field(description="what to type to make the numbers again")
    created: str = Field(description="ISO 8601 time with zone")
    versions: Versions
    commit: str | None = Field(default=None, description="git commit, None outside a checkout")
    seed: int
    seeds: int = Field(default=1, ge=1, description="independent repetitions behind the numbers")
    synthetic: bool = Field(default=True, description="every patient in the run is simulated")
    plan: PlanSummary
    phases: tuple[Phase, ...] = ()


class SiteCohort(_Record):
    """Who the patients of one hospital are."""

    name: str
    held_out: bool = Field(default=False, description="took no part in training: an unseen site")
    patients_train: Count
    patients_test: Count
    scans: Count
    label_counts: dict[str, Count] = Field(description="patients per class name")
    age_mean: NonNegative = Field(description="years")
    age_sd: NonNegative = Field(description="years")
    percent_female: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
    scanner: str = Field(description="field strength, vendor, protocol in words")


class Score(_Record):
    """How well one arm told the classes apart in one group of test patients."""

    balanced_accuracy: Fraction = Field(description="mean recall over the classes")
    low: Fraction = Field(description="lower end of the 95 % patient-level bootstrap interval")
    high: Fraction = Field(description="upper end of the interval")
    macro_auc: Fraction | None = Field(
        description="one-vs-rest, mean over classes; None: undefined"
    )
    n: int = Field(ge=1, description="test patients")
    confusion: tuple[tuple[Count, ...], ...] = Field(
        description="(C, C) patients, rows truth, columns prediction; an arm of several models "
        "counts each patient once per model"
    )
    ece: Fraction | None = Field(default=None, description="expected calibration error")
    brier: NonNegative | None = Field(default=None, description="multi-class Brier score")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"the interval [{self.low}, {self.high}] is upside down")
        total = sum(map(sum, self.confusion))
        if total == 0 or total % self.n:
            raise ValueError(
                f"the confusion matrix counts {total}, a multiple of {self.n} expected"
            )
        return self


class CurvePoint(_Record):
    """Balanced accuracy of the global model after one round."""

    round: Count
    balanced_accuracy: Fraction


class Arm(_Record):
    """One way to obtain a classifier, evaluated on the same test patients as every other."""

    key: str
    title: str
    what: str = Field(description="one sentence for a physician")
    role: ArmRole
    privacy: Literal["none", "patient-level DP"] = "none"
    epsilon: Positive | None = Field(default=None, description="largest spent by any one site")
    scores: dict[str, Score] = Field(description="by site name, 'seen' or 'unseen'")
    curves: dict[Literal["seen", "unseen"], tuple[CurvePoint, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _privacy_has_epsilon(self) -> Self:
        if (self.privacy == "none") != (self.epsilon is None):
            raise ValueError(
                f"arm {self.key!r}: an epsilon, and only then, belongs to a private arm"
            )
        return self


class Comparison(_Record):
    """Paired difference in balanced accuracy, ``arm`` minus ``reference``, on the same patients."""

    arm: str = Field(description="key of the arm")
    reference: str = Field(description="key of the arm it is compared with")
    where: str = Field(description="site name, 'seen' or 'unseen'")
    difference: Finite
    low: Finite = Field(description="lower end of the paired 95 % bootstrap interval")
    high: Finite
    n: int = Field(ge=1, description="test patients")

    @model_validator(mode="after")
    def _interval_is_ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"the interval [{self.low}, {self.high}] is upside down")
        return self


class PrivacySpent(_Record):
    """What one hospital's ledger says after the run."""

    site: str
    spent_epsilon: NonNegative
    budget_epsilon: Positive
    delta: Annotated[float, Field(gt=0, lt=1)]
    steps: Count = Field(description="noised steps that the ledger holds")


class Ratio(_Record):
    """Mass on truly changed tissue over the mass expected by chance; 1 means no better."""

    value: NonNegative
    low: NonNegative | None = Field(
        default=None, description="95 % bootstrap interval, if computed"
    )
    high: NonNegative | None = None

    @model_validator(mode="after")
    def _interval_is_whole(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has both ends or none")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"the interval [{self.low}, {self.high}] is upside down")
        return self


class PlaneAttention(_Record):
    """Slice attention along one plane, mean over test patients; L slices."""

    plane: PlaneName
    position_mm: tuple[Finite, ...] = Field(description="(L,) MNI coordinate across the plane, mm")
    weight: tuple[NonNegative, ...] = Field(description="(L,) mean attention, sums to one")
    chance: tuple[NonNegative, ...] = Field(
        description="(L,) attention that ignores the image, e.g. the brain's share; sums to one"
    )
    truth: tuple[NonNegative, ...] | None = Field(
        default=None, description="(L,) share of the truly atrophied volume per slice"
    )

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        lengths = {len(self.position_mm), len(self.weight), len(self.chance)}
        if self.truth is not None:
            lengths.add(len(self.truth))
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"{self.plane}: the profiles have lengths {sorted(lengths)}")
        return self


class RegionImportance(_Record):
    """One atlas region in the read-out, mean over test patients."""

    name: str
    importance: NonNegative = Field(description="share of the read-out, sums to one over regions")
    chance: NonNegative = Field(description="share without information: 1/R or its volume share")
    centre_mm: tuple[Finite, Finite, Finite] = Field(description="MNI x, y, z in mm")
    is_atrophied: bool | None = Field(
        default=None, description="the simulated disease shrinks it; None where no truth is known"
    )


class Explanations(_Record):
    """What drove the headline arm's output; S scales, R regions."""

    patients: int = Field(ge=1, description="test patients averaged over")
    scales_mm: tuple[Positive, ...] = Field(min_length=1, description="(S,) voxel size, mm")
    regions: tuple[RegionImportance, ...] = Field(min_length=1, description="(R,) in node order")
    fusion_regions: tuple[tuple[Fraction, ...], ...] = Field(
        description="(R, S) mean weight of each scale, rows sum to one, same order as regions"
    )
    planes: tuple[PlaneAttention, ...]
    slice_mass_ratio: Ratio | None = Field(
        default=None, description="voxel map a_sagittal x a_coronal x a_axial on atrophied tissue"
    )
    region_mass_ratio: Ratio | None = None
    evidence_mass_ratio: Ratio | None = Field(
        default=None,
        description="map of importance times evidence for the predicted class, the default of "
        "smrfed-site explain, on atrophied tissue; chance: every brain voxel alike",
    )

    @model_validator(mode="after")
    def _shapes_agree(self) -> Self:
        if len(self.fusion_regions) != len(self.regions):
            raise ValueError(f"{len(self.fusion_regions)} fusion rows, {len(self.regions)} regions")
        if any(len(row) != len(self.scales_mm) for row in self.fusion_regions):
            raise ValueError(f"every fusion row needs {len(self.scales_mm)} scales")
        return self


class SetAside(_Record):
    """A site whose reply did not enter a round."""

    site: str
    reason: str


class RoundParticipation(_Record):
    """Who entered one round's sum."""

    round: Count
    accepted: tuple[str, ...]
    set_aside: tuple[SetAside, ...] = ()


class FederationReport(_Record):
    """Everything the report shows; the JSON form is the source of the HTML.

    Raises:
        pydantic.ValidationError: where a name, a shape or an interval contradicts another part.
    """

    format: Literal[1] = 1
    run: RunFacts
    labels: tuple[str, ...] = Field(min_length=2, description="(C,) class names in logit order")
    cohort: tuple[SiteCohort, ...] = Field(min_length=1)
    arms: tuple[Arm, ...] = Field(min_length=1, description="in the order of the tables")
    headline_arm: str = Field(description="key of the arm that the report is about")
    comparisons: tuple[Comparison, ...] = ()
    privacy: tuple[PrivacySpent, ...] = ()
    explanations: Explanations | None = None
    participation: tuple[RoundParticipation, ...] = ()

    @property
    def chance(self) -> float:
        """Balanced accuracy of a classifier that ignores the patient: 1/C."""
        return 1.0 / len(self.labels)

    @property
    def groups(self) -> tuple[str, ...]:
        """Where scores may be given: the sites in cohort order, 'seen' and 'unseen'."""
        return (*(site.name for site in self.cohort), SEEN, UNSEEN)

    def arm(self, key: str) -> Arm:
        """The arm with this key; raises KeyError where there is none."""
        for arm in self.arms:
            if arm.key == key:
                return arm
        raise KeyError(key)

    def first_arm(self, role: ArmRole) -> Arm | None:
        """The first arm with this role, or None."""
        return next((arm for arm in self.arms if arm.role == role), None)

    def comparison(self, arm: str, reference: str, where: str) -> Comparison | None:
        """The paired difference ``arm - reference`` in one group, or None if it is not there."""
        wanted = (arm, reference, where)
        return next((c for c in self.comparisons if (c.arm, c.reference, c.where) == wanted), None)

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        _require_distinct("site", [site.name for site in self.cohort])
        _require_distinct("arm", [arm.key for arm in self.arms])
        sites = {site.name for site in self.cohort}
        if sites & {SEEN, UNSEEN}:
            raise ValueError("no site may be called 'seen' or 'unseen'")
        keys = {arm.key for arm in self.arms}
        named = {self.headline_arm} | {
            key for c in self.comparisons for key in (c.arm, c.reference)
        }
        if named - keys:
            raise ValueError(f"no arm has the key {sorted(named - keys)}")
        groups = {name for arm in self.arms for name in arm.scores}
        groups |= {c.where for c in self.comparisons}
        if groups - set(self.groups):
            raise ValueError(f"scores of unknown groups {sorted(groups - set(self.groups))}")
        present = {site for r in self.participation for site in r.accepted}
        present |= {a.site for r in self.participation for a in r.set_aside}
        present |= {spent.site for spent in self.privacy}
        if present - sites:
            raise ValueError(f"sites outside the cohort: {sorted(present - sites)}")
        for group in groups:
            sizes = {arm.scores[group].n for arm in self.arms if group in arm.scores}
            if len(sizes) > 1:
                raise ValueError(f"the arms have different test patients at {group!r}: {sizes}")
        classes = len(self.labels)
        for arm in self.arms:
            for where, score in arm.scores.items():
                if len(score.confusion) != classes or {len(r) for r in score.confusion} != {
                    classes
                }:
                    raise ValueError(
                        f"arm {arm.key!r} at {where!r}: the confusion matrix is not "
                        f"({classes}, {classes})"
                    )
        return self


def _require_distinct(what: str, names: list[str]) -> None:
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise ValueError(f"{what} names repeat: {repeated}")
