"""What an evaluation found: typed, frozen, in JSON; a figure that is not determined is null."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared_model.evaluation.beyond import (
    Audit,
    CorruptionFigures,
    Recalibration,
    SiteProbeFigures,
)
from shared_model.evaluation.estimate import Estimate as Estimate
from shared_model.evaluation.estimate import Record as _Record

SEEN = "seen"
UNSEEN = "unseen"

Scope = Literal["open", "stays"]


class GroupFigures(_Record):
    """How well one arm does on one group of patients."""

    patients: int
    class_patients: tuple[int, ...]
    confusion: tuple[tuple[int, ...], ...] = Field(
        description="(C, C) patients, rows the true class, columns the most probable one"
    )
    metrics: dict[str, Estimate] = Field(description="figures over all classes, by name")
    per_class: dict[str, tuple[Estimate, ...]] = Field(
        description="figures of each class against the rest, in the order of the labels"
    )
    indicative: bool = Field(description="a class has fewer than 50 patients")


class SiteSpread(_Record):
    """One metric of one arm over the hospitals of one kind."""

    metric: str
    where: str = Field(description="seen or unseen")
    sites: int
    mean: float | None
    worst: float | None
    worst_site: str | None
    gap: float | None = Field(description="best minus worst hospital")
    sd: float | None = Field(description="over hospitals, n - 1; None for one hospital")


class Curve(_Record):
    """Points of a curve, and what it is."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    patients: tuple[int, ...] = Field(default=(), description="behind each point, where counted")


class Conversion(_Record):
    """How p(AD) foretells progression within 36 months in patients with MCI."""

    progressed: int
    stable: int
    unknown: int
    auc: Estimate
    threshold: float | None = Field(description="of p(AD): fixed before, not fitted here")
    sensitivity: Estimate
    specificity: Estimate


class ArmFigures(_Record):
    """Everything about one arm."""

    key: str
    title: str
    groups: dict[str, GroupFigures] = Field(description="by site, 'seen' and 'unseen'")
    spread: tuple[SiteSpread, ...]
    conversion: dict[str, Conversion] = Field(default_factory=dict, description="seen, unseen")


class GroupCurves(_Record):
    """Curves of the headline arm in one group of patients."""

    where: str
    reliability: tuple[Curve, ...] = Field(description="mean probability against share, by class")
    roc: tuple[Curve, ...] = Field(description="1 - specificity against sensitivity, by class")
    coverage_risk: Curve = Field(description="share of patients answered against their error")
    area_under_risk: Estimate
    referred_at_npv: Estimate = Field(
        description="share of patients referred so that 95 % of those ruled out are rightly so"
    )


class PairedDifference(_Record):
    """Headline minus reference, on the same patients and the same draws."""

    metric: str
    where: str
    arm: str
    reference: str
    patients: int
    difference: Estimate
    p: float | None = Field(description="two-sided, paired bootstrap")
    p_holm: float | None = Field(description="corrected for all comparisons of its family")


class AcrossSites(_Record):
    """Headline minus reference over hospitals, one value each: is the gain there everywhere?"""

    metric: str
    reference: str
    sites: int
    mean: float | None
    wilcoxon_p: float | None
    paired_t_p: float | None


class Subgroup(_Record):
    """The headline arm in a subgroup; without figures where a class has too few patients."""

    column: str
    value: str
    where: str
    patients: int | None = Field(description="None where suppressed")
    suppressed: bool
    metrics: dict[str, Estimate] = Field(default_factory=dict)
    per_class: dict[str, tuple[Estimate, ...]] = Field(default_factory=dict)


class OddsGap(_Record):
    """The largest difference between shown subgroups in how often a class is found or alleged."""

    column: str
    where: str
    gap: float | None


class PrevalenceShift(_Record):
    """What the headline arm's sensitivities and specificities mean at another case mix."""

    name: str
    where: str
    prevalence: tuple[float, ...]
    accuracy: float | None
    ppv: tuple[Estimate, ...]
    npv: tuple[Estimate, ...]


class SitePatients(_Record):
    """Who the test patients of one hospital are."""

    site: str
    seen: bool
    patients: int
    scans: int
    class_patients: tuple[int, ...]
    sex: dict[str, int]
    age_mean: float | None
    age_sd: float | None
    age_known: int
    field_strength_t: dict[str, int]
    vendor: dict[str, int]
    progression: dict[str, int]
    trained_on: int | None = Field(
        default=None, description="training patients of the hospital, where their names were given"
    )


class Overlap(_Record):
    """Whether somebody was trained on and tested on."""

    checked: bool
    trained_on: int | None = Field(description="patients that the check knew as trained on")
    how: str


class Privacy(_Record):
    """The guarantee of the headline arm, as the plan and the ledgers state it."""

    mode: str = Field(description="none, local, distributed or central")
    epsilon: float | None = Field(description="None without a guarantee")
    delta: float | None
    unit: str
    neighbouring: str
    trust: str
    how: str = Field(
        default="the largest spent at any hospital, by the ledgers",
        description="whose epsilon it is, and who says so",
    )
    noise_multiplier: float | None = Field(
        default=None, description="noise standard deviation over the clipping norm"
    )
    clipping_norm: float | None = None
    sampling_rate: float | None = Field(default=None, description="of patients at every step")
    steps: int | None = Field(default=None, description="noised steps of the whole plan")
    mu: float | None = Field(
        default=None, description="of Gaussian privacy; only where every patient is in every step"
    )


class Provenance(_Record):
    """Where the figures come from; None: not stated by whoever made the document."""

    command: str | None = None
    smrfed: str | None = None
    commit: str | None = None
    plan_name: str | None = None
    plan_digest: str | None = None
    model_sha256: str | None = Field(default=None, description="of the headline's parameters")
    synthetic: bool | None = Field(default=None, description="whether every patient is simulated")


class EvaluationDocument(_Record):
    """Everything of one evaluation, as pages, tables and the model card show it."""

    format: Literal[1] = 1
    title: str
    created: str = Field(description="ISO 8601 with zone")
    scope: Scope = Field(
        default="open", description="stays: depends on real patients without noise; must not leave"
    )
    labels: tuple[str, ...]
    headline: str
    alone: str | None = Field(description="key of the arm where every hospital trained alone")
    seed: int
    draws: int
    confidence: float = 0.95
    provenance: Provenance
    privacy: Privacy | None
    overlap: Overlap
    patients: tuple[SitePatients, ...]
    arms: tuple[ArmFigures, ...]
    curves: tuple[GroupCurves, ...]
    differences: tuple[PairedDifference, ...]
    across_sites: tuple[AcrossSites, ...]
    subgroups: tuple[Subgroup, ...]
    odds_gaps: tuple[OddsGap, ...]
    prevalence: tuple[PrevalenceShift, ...]
    recalibration: tuple[Recalibration, ...] = ()
    site_probes: tuple[SiteProbeFigures, ...] = Field(
        default=(), description="where embeddings were given"
    )
    robustness: tuple[CorruptionFigures, ...] = Field(
        default=(), description="where predictions on corrupted scans were given"
    )
    audit: Audit | None = Field(default=None, description="where one was given")
    notes: tuple[str, ...] = Field(description="what is missing, and why")

    def arm(self, key: str) -> ArmFigures:
        """An arm by key; raises KeyError."""
        for arm in self.arms:
            if arm.key == key:
                return arm
        raise KeyError(key)

    def group_title(self, key: str) -> str:
        """A group of patients as a reader sees it."""
        seen = [site.site for site in self.patients if site.seen]
        if key == SEEN:
            return seen[0] if len(seen) == 1 else "all that took part"
        unseen = [site.site for site in self.patients if not site.seen]
        if key == UNSEEN:
            return f"{unseen[0]} (unseen)" if len(unseen) == 1 else "all unseen"
        return f"{key} (unseen)" if key in unseen else key

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups in the order of tables: the sums first; one unseen hospital is its own sum."""
        found = {key for arm in self.arms for key in arm.groups}
        unseen = [site.site for site in self.patients if not site.seen]
        single = len(unseen) == 1
        order = [SEEN, UNSEEN, *(s.site for s in self.patients if s.seen or not single)]
        return tuple(key for key in order if key in found)
