"""What a synthetic cohort is made of: sites, scanners and the size of the disease effect."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from shared_model.errors import SmrfedError

DIAGNOSES = ("CN", "MCI", "AD")
Triple = tuple[float, float, float]
_AXIS_OF = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScannerModel(_Part):
    """How one scanner turns canonical greys (CSF 0.18, grey 0.62, white 1) into an image."""

    csf: float = Field(default=0.15, ge=0, le=1, description="grey of CSF, relative to 1")
    grey: float = Field(default=0.62, gt=0, le=1, description="grey of grey matter")
    white: float = Field(default=1.0, gt=0, le=1.2, description="grey of white matter")
    gamma: float = Field(default=1.0, gt=0.3, lt=3)
    bias: float = Field(default=0.05, ge=0, le=1, description="rms of the log bias field")
    coil: Triple = Field(
        default=(0.0, 0.0, 0.0), description="fixed linear log gain from edge to centre, per axis"
    )
    noise: float = Field(default=0.02, ge=0, le=1, description="Rician sigma, relative to white")
    blur_fwhm_mm: Triple = (0.0, 0.0, 0.0)
    scale: float = Field(default=1000.0, gt=0, description="stored value of white matter")
    scale_spread: float = Field(default=0.05, ge=0, description="sd of the log scale per scan")

    @model_validator(mode="after")
    def _contrast_is_t1(self) -> ScannerModel:
        if not self.csf < self.grey < self.white:
            raise ValueError("a T1 tissue curve needs csf < grey < white")
        return self


class SiteSpec(_Part):
    """One hospital."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
    patients: int = Field(ge=1, le=100_000)
    prevalence: tuple[float, ...] = Field(
        min_length=2, description="of each diagnosis of the cohort; adds up to 1"
    )
    age_shift: float = Field(default=0.0, description="years")
    scanner: ScannerModel | Literal["random"] = Field(
        default_factory=ScannerModel, description="random: another scanner for every patient"
    )
    voxel_mm: Triple = (2.0, 2.0, 2.0)
    orientation: Annotated[str, StringConstraints(pattern=r"^[RLAPSI]{3}$")] = "RAS"
    rotation_sd_deg: float = Field(default=1.5, ge=0, description="pose left by the registration")
    shift_sd_mm: float = Field(default=1.5, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> SiteSpec:
        if abs(sum(self.prevalence) - 1) > 1e-6 or min(self.prevalence) < 0:
            raise ValueError(f"prevalence {self.prevalence} is not a distribution")
        if {_AXIS_OF[letter] for letter in self.orientation} != {0, 1, 2}:
            raise ValueError(f"orientation {self.orientation} does not name three axes")
        return self


class EffectSpec(_Part):
    """Log volume change per region at severity 1, and how severity and age spread.

    A key of ``alpha`` and ``beta`` is the beginning of a region's name; the longest match counts.
    What the diagnoses are is :mod:`simulations.cohort.diseases`; the defaults are Alzheimer's
    disease.
    """

    diagnoses: tuple[str, ...] = Field(
        default=DIAGNOSES, min_length=2, description="controls first; the labels of the cohort"
    )
    subtypes: dict[str, dict[str, float]] = Field(
        default={}, description="diagnosis: an alpha of its own; the others have ``alpha``"
    )

    alpha: dict[str, float] = Field(
        default={
            "hippocampus": -0.68,
            "entorhinal_zone": -0.75,
            "amygdala": -0.62,
            "parahippocampal_zone": -0.45,
            "fusiform": -0.26,
            "temporal": -0.24,
            "cingulate_posterior": -0.24,
            "precuneus": -0.22,
            "parietal": -0.20,
            "supramarginal": -0.20,
            "angular": -0.20,
            "frontal": -0.12,
            "lateral_ventricle": 1.8,
            "inferior_lateral_ventricle_zone": 2.8,
            "third_ventricle": 1.1,
        },
        description="log volume change at severity 1",
    )
    beta: dict[str, float] = Field(
        default={
            "hippocampus": -0.05,
            "lateral_ventricle": 0.13,
            "inferior_lateral_ventricle_zone": 0.13,
            "third_ventricle": 0.13,
            "fourth_ventricle": 0.0,
            "brainstem": 0.0,
            "cerebellum": -0.01,
            "vermis": -0.01,
            "": -0.025,
        },
        description="log volume change per decade of age above 70",
    )
    severity_mean: tuple[float, ...] = Field(
        default=(0.10, 0.42, 0.80), description="of each diagnosis"
    )
    severity_sd: float = Field(default=0.17, ge=0, description="overlap of the diagnoses")
    coarse_sd: float = Field(default=0.13, ge=0, description="spread of volumes given severity")
    fine_sd: float = Field(default=0.12, ge=0, description="spread of texture given severity")
    side_sd: float = Field(default=0.15, ge=0, description="relative left-right difference")
    region_sd: float = Field(default=0.07, ge=0, description="spread of log volumes per region")
    ventricle_region_sd: float = Field(default=0.35, ge=0)
    head_size_sd: float = Field(default=0.03, ge=0, description="what registration leaves")
    head_size_sex: float = Field(default=0.015, description="log size of men over the mean")
    aspect_sd: float = Field(default=0.015, ge=0, description="log aspect per axis")
    texture: float = Field(default=0.06, ge=0, description="fine MTL texture at severity 0")
    pair: float = Field(
        default=0.0,
        ge=0,
        description="log volume moved up or down in {supramarginal, angular} and in "
        "{frontal_middle, frontal_superior}: the same way in AD, opposite ways in CN, so that "
        "only the product tells",
    )
    progression_per_year: float = Field(
        default=0.06, ge=0, description="severity, all diagnoses but the first"
    )
    steady_pace: bool = Field(
        default=False,
        description="a patient's course goes on at the pace seen between the two scans; else its "
        "pace is drawn anew, and two scans tell no more about it than their severity",
    )

    @model_validator(mode="after")
    def _diagnoses_fit(self) -> EffectSpec:
        if len(set(self.diagnoses)) != len(self.diagnoses):
            raise ValueError(f"diagnoses repeat: {self.diagnoses}")
        if len(self.severity_mean) != len(self.diagnoses):
            raise ValueError(f"{len(self.diagnoses)} diagnoses need as many severity_mean")
        if unknown := set(self.subtypes) - set(self.diagnoses):
            raise ValueError(f"subtypes of no diagnosis: {sorted(unknown)}")
        return self

    def alpha_of(self, diagnosis: str) -> dict[str, float]:
        """Log volume change per region at severity 1 of patients with this diagnosis."""
        return self.subtypes.get(diagnosis, self.alpha)


class CohortSpec(_Part):
    """A cohort: the same spec and seed give the same voxels, whatever the number of workers.

    :meth:`load` raises SMR-E630 where the TOML file is unreadable or a value is out of range.
    """

    format: Literal[1] = 1
    name: str = "synthetic"
    seed: int = Field(default=0, ge=0, lt=2**63)
    id_prefix: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]*$")] = Field(
        default="", description="put before every participant number instead of the site's name"
    )
    sites: tuple[SiteSpec, ...] = Field(min_length=1)
    effect: EffectSpec = Field(default_factory=EffectSpec)
    male_share: float = Field(default=0.48, ge=0, le=1)
    age_mean: tuple[float, ...] = Field(
        default=(71.5, 73.0, 75.0), description="years, of each diagnosis"
    )
    age_sd: float = Field(default=7.0, ge=0, description="years")
    second_session_share: float = Field(default=0.15, ge=0, le=1)

    @model_validator(mode="after")
    def _sites_are_distinct(self) -> CohortSpec:
        codes = [site.name.replace("-", "") for site in self.sites]
        if len(set(codes)) != len(codes):
            raise ValueError(f"site names repeat: {codes}")
        if self.id_prefix and len(self.sites) > 1:
            raise ValueError("an id_prefix is for a cohort of one site")
        count = len(self.effect.diagnoses)
        lengths = {"age_mean": len(self.age_mean)} | {
            f"prevalence of {site.name}": len(site.prevalence) for site in self.sites
        }
        if wrong := [name for name, length in lengths.items() if length != count]:
            raise ValueError(f"{count} diagnoses need as many values of {', '.join(wrong)}")
        return self

    def site(self, name: str) -> SiteSpec:
        """The site of that name.

        Raises:
            SmrfedError: SMR-E631 where the cohort has no such site.
        """
        for site in self.sites:
            if site.name == name:
                return site
        raise SmrfedError(
            "SMR-E631",
            f"Cohort '{self.name}' has no site '{name}'.",
            found=name,
            expected=", ".join(site.name for site in self.sites),
            remedy="Use one of the sites of the cohort's TOML file.",
        )

    def to_toml(self) -> str:
        """The spec as TOML text that :meth:`load` reads back."""
        data = self.model_dump(mode="json", exclude_none=True)
        # A later field is left out at its default, so that older cohorts are recognised.
        for name in ("diagnoses", "subtypes", "steady_pace"):
            if getattr(self.effect, name) == EffectSpec.model_fields[name].default:
                del data["effect"][name]
        return tomli_w.dumps(data)

    @classmethod
    def load(cls, path: Path) -> CohortSpec:
        """Read a TOML file.

        Raises:
            SmrfedError: SMR-E630.
        """
        try:
            return cls.model_validate(tomllib.loads(path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
            raise SmrfedError(
                "SMR-E630",
                f"Cannot use {path} as a cohort description.",
                found=str(error),
                remedy="Correct the named value; docs/synthetic_cohort.md lists all of them.",
            ) from error
