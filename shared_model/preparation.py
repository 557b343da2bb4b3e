"""How a scan becomes a model input: every step and its parameters, the same at every site."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Step(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BiasFieldStep(_Step):
    """N4 bias-field correction inside the brain (Tustison et al. 2010)."""

    enabled: bool = True
    shrink_mm: float = Field(
        default=4.0, ge=1.0, le=8.0, description="voxel size at which the field is fitted, mm"
    )
    iterations: tuple[int, ...] = Field(
        default=(50, 50, 30), min_length=1, description="iterations per fitting level"
    )


class BrainExtractionStep(_Step):
    """Which voxels are brain, and whether everything else is removed."""

    method: Literal["deepbet"] = Field(
        default="deepbet", description="deepbet 1.0 (Fisch et al. 2024), weights in its wheel"
    )
    strip: bool = Field(
        default=True,
        description="remove what is not brain; false keeps the head, because the outline of a mask "
        "can itself become a shortcut for the model. The mask is used for registration, intensity "
        "and volumes either way",
    )


class RegistrationStep(_Step):
    """Affine registration to the MNI152 2009a symmetric template's brain."""

    degrees_of_freedom: Literal[6, 9, 12] = Field(default=12, description="rigid, scaled or affine")
    levels_mm: tuple[float, ...] = Field(
        default=(8.0, 4.0, 2.0), min_length=1, description="voxel sizes, coarse to fine, mm"
    )
    minimum_dice: float = Field(
        default=0.90, ge=0, le=1, description="overlap of the brains below which a scan fails"
    )
    minimum_correlation: float = Field(
        default=0.40,
        ge=-1,
        le=1,
        description="correlation with the template, over the union of the brains, below which a "
        "scan fails",
    )


class Preparation(_Step):
    """The steps from a scan to the model grid.

    ``source = "mni152"`` takes scans that are skull-stripped and aligned already and only resamples
    them; ``"native"`` runs every step on scans as they come from the scanner.
    """

    source: Literal["mni152", "native"] = Field(
        default="mni152", description="what the archives hold: aligned scans, or scans as acquired"
    )
    bias_field: BiasFieldStep = BiasFieldStep()
    brain_extraction: BrainExtractionStep = BrainExtractionStep()
    registration: RegistrationStep = RegistrationStep()
