"""What a scenario file may say: cohort, who is left out, arms, comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared_model.plan import SiteName
from simulations.cohort.spec import EffectSpec, SiteSpec, Triple

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
ArmKind = Literal[
    "federated",
    "alone",
    "pooled",
    "shuffled_labels",
    "prior",
    "age_sex",
    "region_volumes",
    "harmonised_volumes",
    "true_volumes",
]
CorruptionKind = Literal["noise", "bias_field", "motion", "resolution", "missing_slices"]
Group = Literal["seen", "unseen", "worst-seen", "worst-unseen", "each-seen", "each-unseen"]

#: Kinds that need volumes read off the images.
MEASURED: frozenset[ArmKind] = frozenset({"region_volumes", "harmonised_volumes"})
#: Kinds that train the plan's model; the others fit a simple classifier to a table.
NEURAL: frozenset[ArmKind] = frozenset({"federated", "alone", "pooled", "shuffled_labels"})


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HospitalsSection(_Section):
    """Hospitals drawn from ranges: the same ones for every seed of the scenario, other patients."""

    count: int = Field(ge=2, le=32, description="hospitals in all, those left out included")
    patients: tuple[int, int] = Field(
        default=(60, 60), description="smallest and largest archive; drawn evenly in the logarithm"
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="of the hospitals, not the patients")
    prevalence: Triple = Field(default=(0.35, 0.35, 0.30), description="CN, MCI, AD; adds up to 1")
    prevalence_spread: float = Field(
        default=0.0, ge=0, le=3, description="sd of the log odds of each class between hospitals"
    )
    age_spread: float = Field(default=0.0, ge=0, le=20, description="sd of age shifts, years")
    voxels: Literal["same", "varied"] = Field(
        default="same", description="2 mm everywhere, or 1.8 to 3 mm along an axis of each hospital"
    )
    pose_sd: tuple[float, float] = Field(
        default=(1.0, 2.5), description="smallest and largest pose spread, degrees and mm"
    )

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> HospitalsSection:
        if not 1 <= self.patients[0] <= self.patients[1] <= 100_000:
            raise ValueError("patients must be smallest and largest, from 1 to 100000")
        if not 0 <= self.pose_sd[0] <= self.pose_sd[1]:
            raise ValueError("pose_sd must be smallest and largest, at least 0")
        if abs(sum(self.prevalence) - 1) > 1e-6 or min(self.prevalence) <= 0:
            raise ValueError("prevalence must be positive and add up to 1")
        return self


class CohortSection(_Section):
    """The hospitals: one of ``design``, ``hospitals``, ``sites`` and ``archives``; then changes."""

    design: Literal["four-and-one"] | None = Field(
        default=None, description="the shipped four hospitals, site-a to site-d, and site-e"
    )
    hospitals: HospitalsSection | None = None
    sites: tuple[SiteSpec, ...] = Field(default=(), max_length=32, description="written in full")
    archives: dict[SiteName, Path] = Field(
        default_factory=dict,
        description="BIDS archives that exist; relative to the scenario's file. Nothing is "
        "generated, and a seed then decides the split and the training only",
    )
    patients: int | None = Field(
        default=None, ge=1, le=100_000, description="at every hospital of the design"
    )
    patients_at: dict[SiteName, int] = Field(
        default_factory=dict, description="patients at single hospitals"
    )
    size: float = Field(
        default=1.0,
        ge=0.05,
        le=20,
        description="every archive so many times as large, with 12 patients at least",
    )
    shift: float = Field(
        default=1.0,
        ge=0,
        le=2,
        description="distance of every scanner from the reference one: 0 the same scanner and "
        "voxels everywhere, 1 as described, 2 twice as far",
    )
    prevalence_at: dict[SiteName, Triple] = Field(
        default_factory=dict, description="CN, MCI, AD at single hospitals"
    )
    prevalence_everywhere: Triple | None = Field(default=None, description="CN, MCI, AD")
    age_shift_everywhere: float | None = Field(default=None, description="years")
    effect: EffectSpec | None = None
    age_mean: Triple | None = Field(default=None, description="years; CN, MCI, AD")
    second_session_share: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _one_source(self) -> CohortSection:
        given = [n for n in ("design", "hospitals", "sites", "archives") if getattr(self, n)]
        if len(given) != 1:
            raise ValueError(
                f"needs exactly one of design, hospitals, sites, archives; found {given or 'none'}"
            )
        if self.sites and len(self.sites) < 2:
            raise ValueError("a federation has at least 2 hospitals")
        if self.archives:
            changed = self.model_fields_set - {"archives"}
            if changed or not 2 <= len(self.archives) <= 32:
                raise ValueError("archives: 2 to 32 of them, and nothing about them can be changed")
        return self


class ArmSection(_Section):
    """One arm: what is trained, and how its plan differs from that of all arms."""

    kind: ArmKind = Field(
        description="federated: real agents, ledgers and driver; alone: each hospital by itself; "
        "pooled: all images in one place; shuffled_labels: pooled with labels shuffled over all "
        "patients; prior, age_sex, region_volumes (read off the images), "
        "harmonised_volumes (the same after ComBat), true_volumes"
    )
    title: str = Field(default="", max_length=80, description="in tables; none: the arm's name")
    what: str = Field(default="", max_length=400, description="one sentence for the page")
    plan: dict[str, Any] = Field(
        default_factory=dict,
        description="fields of the federation plan that this arm changes, by section; an empty "
        "text takes a field back to the plan's default",
    )
    view: Literal["own", "released", "adapted"] = Field(
        default="own",
        description="own: at a hospital that trained, the model that it personalised for itself, "
        "if it did; adapted: and at an unseen one, the model adapted to its scans without labels "
        "(layer C); released: the released model everywhere",
    )
    repeats: int = Field(
        default=1, ge=1, le=100, description="runs with other noise; only for a private plan"
    )


class ComparisonSection(_Section):
    """Paired differences that are printed: an arm minus others, on the same patients."""

    arm: Name
    minus: tuple[Name, ...] = Field(min_length=1)
    where: tuple[Group, ...] = Field(default=("seen", "unseen"), min_length=1)


class BesideSection(_Section):
    """What is measured beside predictions, of arms that end with one model."""

    arms: tuple[Name, ...] = Field(min_length=1, description="federated or pooled ones")
    embeddings: bool = Field(default=True, description="for the probe of the hospital")
    corruption: tuple[CorruptionKind, ...] = Field(
        default=(), description="kinds of worse scans; each severity reads all test scans anew"
    )
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = Field(
        default=(1, 3, 5), min_length=1
    )


class Scenario(_Section):
    """A whole experiment; :mod:`simulations.scenarios.load` reads it and names what is wrong."""

    format: Literal[1] = 1
    title: str = Field(min_length=1, max_length=120)
    about: str = Field(default="", max_length=1500, description="what it is for")
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(
        min_length=1, description="one cohort each"
    )
    cohort: CohortSection
    held_out: tuple[SiteName, ...] | Literal["each"] = Field(
        default=(), description="hospitals that nobody trains on; each: leave one hospital out"
    )
    one_by_one: bool = Field(
        default=False, description="the hospitals of held_out are left out in turn, not together"
    )
    plan: dict[str, Any] = Field(
        default_factory=dict, description="fields of the federation plan that every arm shares"
    )
    arms: dict[Name, ArmSection] = Field(min_length=1)
    compare: tuple[ComparisonSection, ...] = ()
    beside: BesideSection | None = None
    draws: int = Field(default=2000, ge=100, le=100_000, description="of the patient bootstrap")

    @model_validator(mode="after")
    def _adapted_where_moments_leave(self) -> Scenario:
        for name, arm in self.arms.items():
            layers = [part.get("calibration", {}) for part in (self.plan, arm.plan)]
            asked = any(isinstance(p, dict) and p.get("unseen_sites") for p in layers)
            if arm.view == "adapted" and not (asked and arm.kind == "federated"):
                raise ValueError(
                    f"arm {name!r}: view 'adapted' needs kind 'federated' and "
                    "plan.calibration.unseen_sites = true"
                )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Scenario:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds repeat")
        if self.held_out != "each" and len(set(self.held_out)) != len(self.held_out):
            raise ValueError("held_out names a hospital twice")
        for name in self.beside.arms if self.beside is not None else ():
            if name not in self.arms or self.arms[name].kind not in ("federated", "pooled"):
                raise ValueError(f"beside names {name!r}, which is no federated or pooled arm")
        for entry in self.compare:
            for name in (entry.arm, *entry.minus):
                if name not in self.arms:
                    raise ValueError(f"compare names {name!r}, which is no arm")
            if entry.arm in entry.minus:
                raise ValueError(f"compare takes {entry.arm!r} from itself")
        return self
