"""Everything that is known about one scan when it is decided whether it may be used."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from client.quality.header import HeaderFacts

#: Raise it with any change of what a measure means.
MEASURES_VERSION = 1


class ScanMeasures(BaseModel):
    """The measures of one scan; None where one cannot be taken, and ``absent`` says why.

    Greys are those of the image after bias-field correction, at its own resolution. Docs:
    docs/quality.md.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = MEASURES_VERSION
    header: HeaderFacts
    already_stripped: bool = Field(description="the scan came without skull")

    snr_white: float | None = Field(
        default=None,
        description="white matter's mean over its standard deviation (MRIQC, Esteban et al. 2017); "
        "low is bad: noise, motion, bias field",
    )
    snr_grey: float | None = Field(default=None, description="the same in grey matter; low is bad")
    cnr: float | None = Field(
        default=None,
        description="distance of white and grey matter's means over sqrt(variances of white, grey "
        "and air) (Magnotta and Friedman 2006; MRIQC); air counts 0 where unknown; low is bad",
    )
    cjv: float | None = Field(
        default=None,
        description="sum of white and grey matter's standard deviations over the distance of "
        "their means (Ganzetti et al. 2016); high is bad: motion, bias field",
    )
    white_over_grey: float | None = Field(
        default=None,
        description="white matter's mean over grey matter's; above 1 in a T1w image, at most 1 in "
        "T2w, FLAIR, PD, diffusion",
    )
    efc: float = Field(
        description="entropy focus criterion (Atkinson et al. 1997), 0 to 1; high is bad: ghosts, "
        "blur; depends on how much air there is"
    )
    noise_percent: float | None = Field(
        default=None,
        description="1.4826 MAD of the air in percent of white matter's mean; high is bad",
    )
    background_zero_share: float = Field(
        description="part of the air that is exactly zero; from 0.5 on its noise is not measured"
    )
    fber: float | None = Field(
        default=None,
        description="median energy of the head over that of the air (Shehzad et al. 2015); low is "
        "bad",
    )
    smoothness_mm: float | None = Field(
        default=None,
        description="full width at half maximum, mm (Forman et al. 1995); high is blur, low is "
        "noise",
    )
    brain_ml: float = Field(description="volume of the brain mask, ml")
    edge_faces: int = Field(description="faces of the image, of six, that the brain mask touches")
    edge_cm2: float = Field(description="brain mask on the image's faces, cm2; brain is cut off")

    dice: float | None = Field(
        default=None,
        description="overlap of the brain with the template's, 0 to 1; low is a wrong mask or "
        "registration",
    )
    correlation: float | None = Field(
        default=None,
        description="Pearson's correlation with the template over both brains; low is bad",
    )
    centre_shift_mm: float | None = Field(
        default=None, description="distance between the brain's and the template's centre, mm"
    )
    determinant: float | None = Field(
        default=None,
        description="volume in MNI space over volume in the scanner; far from 1.2 is bad",
    )
    stretch: float | None = Field(
        default=None, description="largest over smallest scale of the registration; high is bad"
    )
    rotation_degrees: float | None = Field(
        default=None,
        description="how far the registration turned the head; above 45 the header's axes are "
        "suspect",
    )
    lost_share: float | None = Field(
        default=None, description="share of the brain outside the model's field of view"
    )
    absent: Mapping[str, str] = Field(
        default_factory=dict, description="why a measure is None, by name"
    )

    @property
    def thickest_mm(self) -> float:
        """The longest side of a voxel, mm: the slice thickness of a 2-D series."""
        return max(self.header.spacing_mm)

    @property
    def finest_mm(self) -> float:
        """The shortest side of a voxel, mm."""
        return min(self.header.spacing_mm)

    @property
    def grey_levels(self) -> int:
        """Different values in the file."""
        return self.header.grey_levels

    @property
    def shortest_field_mm(self) -> float:
        """The shortest side of the field of view, mm."""
        return min(self.header.field_of_view_mm)
