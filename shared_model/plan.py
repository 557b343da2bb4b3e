"""The federation plan: everything the parties agree on, frozen, in TOML, known by its digest."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from shared_model.adaptation.section import AdaptationSection
from shared_model.aggregation.contradictions import refuse_contradictions
from shared_model.aggregation.section import AggregationSection
from shared_model.aggregation.secure_section import SecureAggregationSection
from shared_model.augmentation import AugmentationSection
from shared_model.clinical.section import ClinicalSection
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid
from shared_model.groups import ParameterGroups
from shared_model.preparation import Preparation
from shared_model.privacy.section import PrivacyMode as PrivacyMode
from shared_model.privacy.section import PrivacySection as PrivacySection
from shared_model.releases.section import CalibrationSection, EvaluationSection
from shared_model.weighting import ClassWeighting, RateFactor

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
SiteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TaskSection(_Section):
    """What is predicted."""

    labels: tuple[str, ...] = Field(
        default=("CN", "MCI", "AD"), min_length=2, description="class names in logit order"
    )
    kind: Literal["classification", "segmentation", "detection"] = Field(
        default="classification",
        description="of a whole scan, of every voxel, or of boxes around lesions; the model's own",
    )


class ModelSection(_Section):
    """Which registered model, with which configuration."""

    name: str = Field(default="smrnet", description="name in the model registry")
    config: dict[str, Any] = Field(default_factory=dict, description="the model's own options")
    weights_sha256: Sha256 | None = Field(
        default=None,
        description="digest of the public initial weights; none: seeded initialisation",
    )

    @field_validator("config")
    @classmethod
    def _has_a_digest(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Refuse what JSON cannot say: NaN and infinity would be written as the same word."""
        json.dumps(config, allow_nan=False)
        return config


class AtlasSection(_Section):
    """The parcellation whose regions are the nodes of the graph; all sites use the same."""

    name: str = "smrfed-seeded"
    sha256: Sha256 | None = Field(
        default=None, description="digest over labels, names, affine and adjacency"
    )


class InputSection(_Section):
    """How a scan becomes a model input; the same at every site, from public values only."""

    grid: ModelGrid = Field(default_factory=ModelGrid)
    intensity: Literal["zscore", "quantile"] = Field(
        default="zscore",
        description="per-scan standardisation in the brain: z-score, or quantile matching to the "
        "public template followed by z-score",
    )
    preparation: Preparation = Field(
        default_factory=Preparation, description="the steps from a scan to the grid"
    )
    clinical: ClinicalSection = Field(
        default_factory=ClinicalSection, description="clinical variables beside the scan"
    )
    quality: Literal["pass", "approved"] = Field(
        default="approved",
        description="native scans that training takes: those that pass quality control, or also "
        "those that a person of the hospital looked at and accepted",
    )


class TrainingSection(_Section):
    """Local optimisation: plain SGD steps over Poisson-sampled patients."""

    rounds: int = Field(default=10, ge=1, le=100_000)
    local_steps: int = Field(default=1, ge=1, description="optimiser steps per site and round")
    sampling_rate: float = Field(
        default=1.0, gt=0, le=1, description="Poisson probability that a patient joins a step"
    )
    learning_rate: float = Field(default=0.5, gt=0)
    weight_decay: float = Field(default=0.0, ge=0, description="data-free, added after the noise")
    rate_factors: tuple[RateFactor, ...] = Field(
        default=(),
        max_length=64,
        description="layered learning rates: the first pattern that a parameter matches scales "
        "its steps",
    )
    class_weighting: ClassWeighting = Field(
        default_factory=ClassWeighting, description="against class imbalance"
    )
    server_learning_rate: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="moving average of the global parameters over the rounds, which is what is "
        "evaluated and finalised; 0: the last round's parameters",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="of forward and backward passes where the hardware has it; gradients, norms, "
        "clipping and noise are in float32 and float64 always",
    )


class SiteEntry(_Section):
    """One hospital as the plan names it."""

    name: SiteName
    declared_patients: int = Field(
        ge=1, description="public size of the training set: the fixed denominator of the site"
    )
    signing_key: Sha256 | None = Field(
        default=None,
        description="Ed25519 public key with which the site certifies its masks, 64 hexadecimal "
        "digits; required where sums are aggregated securely, and only there",
    )


class FederationSection(_Section):
    """Who takes part, and how many must answer."""

    sites: tuple[SiteEntry, ...] = Field(min_length=1)
    weighting: Literal["equal", "declared_patients"] = "equal"
    min_sites: int = Field(default=1, ge=1, description="quorum: accepted replies per round")
    min_patients: int = Field(
        default=0,
        ge=0,
        description="quorum: declared patients of the accepted sites together, per round; 0: any",
    )
    round_deadline_s: float = Field(default=3600.0, gt=0, description="seconds a site may take")

    @model_validator(mode="after")
    def _sites_are_distinct(self) -> FederationSection:
        names = [site.name for site in self.sites]
        if len(set(names)) != len(names):
            raise ValueError(f"site names repeat: {sorted(names)}")
        if self.min_sites > len(names):
            raise ValueError(f"min_sites {self.min_sites} exceeds the {len(names)} sites")
        declared = sum(site.declared_patients for site in self.sites)
        if self.min_patients > declared:
            raise ValueError(f"min_patients {self.min_patients} exceeds the {declared} declared")
        return self


class FederationPlan(_Section):
    """The agreement: every party shows, and acts on, the same digest.

    Raises SMR-E101 (unreadable TOML) and SMR-E102 (a value is missing, unknown or out of range)
    from :meth:`load` and :meth:`parse`.
    """

    format: Literal[1] = 1
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,80}$")]
    seed: int = Field(default=0, ge=0, lt=2**63, description="public: split, initial weights")
    task: TaskSection = Field(default_factory=TaskSection)
    model: ModelSection = Field(default_factory=ModelSection)
    atlas: AtlasSection = Field(default_factory=AtlasSection)
    input: InputSection = Field(default_factory=InputSection)
    groups: ParameterGroups = Field(default_factory=ParameterGroups)
    privacy: PrivacySection
    training: TrainingSection = Field(default_factory=TrainingSection)
    augmentation: AugmentationSection = Field(default_factory=AugmentationSection)
    aggregation: AggregationSection = Field(default_factory=AggregationSection)
    secure_aggregation: SecureAggregationSection | None = None
    adaptation: AdaptationSection = Field(default_factory=AdaptationSection)
    federation: FederationSection
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)
    calibration: CalibrationSection = Field(default_factory=CalibrationSection)

    @model_validator(mode="after")
    def _every_release_is_noised_when_private(self) -> FederationPlan:
        releases = (
            ("evaluation.release_noise_multiplier", self.evaluation.release_every > 0,
             self.evaluation.release_noise_multiplier),
            ("calibration.noise_multiplier", self.calibration.releases,
             self.calibration.noise_multiplier),
            ("adaptation.moments_noise_multiplier", self.adaptation.site_moments != "off",
             self.adaptation.moments_noise_multiplier),
        )  # fmt: skip
        for field, released, noise in releases:
            if self.privacy.mode != "none" and released and noise <= 0:
                raise ValueError(f"privacy mode {self.privacy.mode!r} needs {field} > 0")
            if self.privacy.mode == "none" and noise > 0:
                raise ValueError(f"privacy mode 'none' adds no noise: set {field} to 0")
        return self

    @model_validator(mode="after")
    def _releases_are_of_classes(self) -> FederationPlan:
        if self.task.kind == "classification":
            return self
        asked = {
            "evaluation.release_every": self.evaluation.release_every > 0,
            "calibration": self.calibration.releases,
            "adaptation.site_moments": self.adaptation.site_moments != "off",
        }
        for field, on in asked.items():
            if on:
                raise ValueError(f"{field} is for task.kind 'classification' only")
        return self

    @model_validator(mode="after")
    def _lesions_stay_with_the_scan(self) -> FederationPlan:
        if self.task.kind == "classification" or not self.augmentation.enabled:
            return self
        for field in ("rotation_deg", "shift_mm", "scale", "flip_probability"):
            if getattr(self.augmentation, field) > 0:
                raise ValueError(
                    f"augmentation.{field} moves the scan and not its lesions: set it to 0 for "
                    f"task.kind {self.task.kind!r}"
                )
        return self

    @model_validator(mode="after")
    def _weights_and_aggregation_fit(self) -> FederationPlan:
        self.training.class_weighting.refuse_contradictions(
            len(self.task.labels), self.task.kind, private=self.privacy.mode != "none"
        )
        refuse_contradictions(self)
        return self

    @property
    def canonical_json(self) -> bytes:
        """The plan as sorted, compact JSON: the bytes that the digest is taken over.

        What has its default is left out, so that a field which a later version adds changes no
        digest: hospitals upgrade at different times, and their ledgers name plans by digest. So a
        default never changes within one ``format``; a test holds them all fixed.
        """
        said = {"format": self.format, **self.model_dump(mode="json", exclude_defaults=True)}
        return json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of :attr:`canonical_json`, as 64 hexadecimal digits."""
        return hashlib.sha256(self.canonical_json).hexdigest()

    @property
    def total_steps(self) -> int:
        """Noised optimiser steps that one site takes over the whole plan."""
        return self.training.rounds * self.training.local_steps

    @property
    def weights(self) -> dict[str, int]:
        """Integer public aggregation weight of every site."""
        if self.federation.weighting == "equal":
            return {site.name: 1 for site in self.federation.sites}
        return {site.name: site.declared_patients for site in self.federation.sites}

    def site(self, name: str) -> SiteEntry:
        """The plan's entry for one site; raises SMR-E104 when the plan does not name it."""
        for entry in self.federation.sites:
            if entry.name == name:
                return entry
        raise SmrfedError(
            "SMR-E104",
            f"site {name!r} is not part of plan {self.name!r}",
            expected=[site.name for site in self.federation.sites],
            found=name,
            remedy="use the site name that the coordinator registered, or ask to be added",
        )

    @classmethod
    def parse(cls, data: dict[str, Any], source: str = "plan") -> FederationPlan:
        """Validate plain data; raises SMR-E102 naming every offending field."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or 'plan'}: {item['msg']}"
                for item in error.errors()
            )
            raise SmrfedError(
                "SMR-E102",
                f"the federation plan {source} is not valid",
                found=problems,
                remedy="correct these fields; docs/plan.md lists each with its unit and range",
            ) from None

    @classmethod
    def load(cls, path: Path) -> FederationPlan:
        """Read a plan from TOML; raises SMR-E101 or SMR-E102."""
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SmrfedError(
                "SMR-E101",
                f"cannot read the federation plan {path}",
                found=error,
                remedy="check that the file exists and is valid TOML",
            ) from None
        return cls.parse(data, source=str(path))
