"""How training scans are varied, so that a model does not learn one scanner: public ranges."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class AugmentationSection(BaseModel):
    """Random effects of scanner and pose on training scans; the same at every site; off by default.

    The ranges are those of TorchIO (Perez-Garcia et al. 2021) and SynthSeg (Billot et al. 2023),
    narrowed to scans that are aligned to MNI152 and standardised already. Greys are the robust
    z-scores of the prepared scan, from -4 (background) to 4. Test scans and personalisation are
    never augmented.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    enabled: bool = Field(default=False, description="false: every scan is taken as it is")
    multiplicity: int = Field(
        default=4,
        ge=1,
        le=64,
        description="augmented views of each scan and step, whose gradients are averaged before "
        "the one clip of the patient (De et al. 2022): costs time, no privacy",
    )
    views: int = Field(
        default=8,
        ge=1,
        le=256,
        description="with a frozen encoder: views of each scan whose tokens are kept; every step "
        "draws multiplicity of them. At least multiplicity",
    )
    probability: float = Field(
        default=0.5, ge=0, le=1, description="with which each effect below takes part in a view"
    )
    log_gamma: float = Field(
        default=0.3, ge=0, le=1, description="greys in [0, 1] to the power exp(+-log_gamma)"
    )
    bias_rms: float = Field(
        default=0.15, ge=0, le=0.5, description="largest rms of the log of the smooth bias field"
    )
    blur_fwhm_mm: float = Field(
        default=2.5, ge=0, le=8, description="largest FWHM of the point spread, per axis, mm"
    )
    slice_mm: float = Field(
        default=5.0,
        ge=0,
        le=10,
        description="thickest slices, along one axis, that a scan is sampled to and brought back "
        "from, mm; up to the grid's spacing: none",
    )
    noise_sd: float = Field(
        default=0.25, ge=0, le=2, description="largest standard deviation of the noise, z-score"
    )
    noise: Literal["rician", "gaussian"] = Field(
        default="rician", description="of magnitude images, or of images that were averaged"
    )
    rotation_deg: float = Field(
        default=2.0, ge=0, le=15, description="largest rotation about each axis, degrees"
    )
    shift_mm: float = Field(
        default=2.0, ge=0, le=15, description="largest translation along each axis, mm"
    )
    scale: float = Field(
        default=0.02, ge=0, le=0.2, description="largest relative change of size along each axis"
    )
    grey_scale: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="largest relative change of the standardised greys, after standardisation",
    )
    grey_shift: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="largest shift of the standardised greys, after standardisation, z-score",
    )
    flip_probability: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="with which left and right are exchanged; 0, because asymmetry is a sign of "
        "disease",
    )

    @model_validator(mode="after")
    def _enough_views(self) -> AugmentationSection:
        if self.views < self.multiplicity:
            raise ValueError(f"views {self.views} is less than multiplicity {self.multiplicity}")
        return self
