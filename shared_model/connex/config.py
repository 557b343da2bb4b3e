"""Options of ConneX, as a plan's ``[model.config]`` gives them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared_model.connex.parcellation import MOST_REGIONS
from shared_model.layers.site_norm import SiteNorm

Fusion = Literal["cross", "unified", "late"]


class ConnexConfig(BaseModel):
    """Sizes, transforms with public constants, and the weights of the joint loss."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    classes: int = Field(default=2, ge=2)
    site_norm: SiteNorm = "residual"
    regions: int | None = Field(
        default=None,
        ge=2,
        le=MOST_REGIONS,
        description="rows of a connectome; none: one for each region of the plan's atlas",
    )
    parcellation_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = (
        Field(default=None, description="digest of the region names in order; with regions")
    )
    require: Literal["any", "both"] = Field(
        default="any", description="connectomes that every visit must bring"
    )
    structural: Literal["log1p", "as_is"] = Field(
        default="log1p", description="transform of structural weights, such as streamline counts"
    )
    functional: Literal["fisher_z", "as_is"] = Field(
        default="fisher_z", description="transform of correlations"
    )
    width: int = Field(default=16, ge=2, le=256, description="numbers per node")
    layers: int = Field(default=1, ge=1, le=4, description="graph layers per modality")
    mask: bool = Field(default=True, description="an explanation mask shared by all patients")
    mask_gain: float = Field(
        default=2.0, gt=0, le=100, description="mask = sigmoid(gain * parameter)"
    )
    mask_sparsity: float = Field(default=0.5, ge=0, description="weight of the mask's mean")
    mask_entropy: float = Field(default=0.0, ge=0, description="weight of the mask's mean entropy")
    fusion: Fusion = Field(
        default="cross",
        description="cross: attention to the unified view; unified: without attention; "
        "late: modalities meet in the logits only",
    )
    mixer: bool = Field(default=True, description="MLP-Mixer after the fusion")
    mixer_tokens: int = Field(default=8, ge=1, le=512, description="hidden numbers over nodes")
    mixer_channels: int = Field(default=32, ge=1, le=1024, description="hidden numbers per node")
    loss_structural: float = Field(
        default=0.3, ge=0, le=10, description="weight of the structural head's loss; 0: none"
    )
    loss_functional: float = Field(
        default=0.3, ge=0, le=10, description="weight of the functional head's loss; 0: none"
    )
    modality_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="probability that one of two modalities is left out"
    )

    @model_validator(mode="after")
    def _says_which_regions(self) -> ConnexConfig:
        if (self.regions is None) != (self.parcellation_sha256 is None):
            raise ValueError("regions and parcellation_sha256 go together")
        if self.fusion == "late" and 0 in (self.loss_structural, self.loss_functional):
            raise ValueError("fusion 'late' trains both heads: their loss weights are above 0")
        return self
