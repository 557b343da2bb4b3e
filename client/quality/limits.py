"""From where on a measure makes a scan questionable or useless, in one place."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Bounds(BaseModel):
    """Limits of one measure, from the hard lower to the hard upper one; None is no limit.

    ``final``: a person cannot accept a scan that fails here, because nothing sensible would reach
    the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fail_below: float | None = None
    review_below: float | None = None
    review_above: float | None = None
    fail_above: float | None = None
    final: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        given = [self.fail_below, self.review_below, self.review_above, self.fail_above]
        known = [limit for limit in given if limit is not None]
        if known != sorted(known):
            raise ValueError("limits must rise: fail_below, review_below, review_above, fail_above")
        return self


def _bounds(
    fail_below: float | None,
    review_below: float | None,
    review_above: float | None,
    fail_above: float | None,
    source: str,
    *,
    final: bool = False,
) -> Bounds:
    bounds = Bounds(
        fail_below=fail_below, review_below=review_below,
        review_above=review_above, fail_above=fail_above, final=final,
    )  # fmt: skip
    field: Bounds = Field(default=bounds, description=source)
    return field


class QualityLimits(BaseModel):
    """Limits by the name of the measure; each description gives the unit and the source.

    "Real heads" are seven public scans, with and without skull, through all steps
    (docs/quality.md), and ten from the choice of the registration. A healthy scan passes with room;
    the limits find what is broken, not what is old: atrophy must not exclude a patient.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dice: Bounds = _bounds(
        0.90, 0.92, None, None, "0 to 1; real heads .924 to .972, phantom .64", final=True
    )
    correlation: Bounds = _bounds(
        0.40, 0.45, None, None, "-1 to 1; real heads .465 to .75, phantom .24", final=True
    )
    determinant: Bounds = _bounds(
        0.4, 0.8, 2.2, 3.0, "ratio; real heads 1.05 to 1.57, a brain of 900 ml 2.1", final=True
    )
    stretch: Bounds = _bounds(None, None, 1.35, 2.0, "ratio; real heads 1.03 to 1.14")
    rotation_degrees: Bounds = _bounds(
        None, None, 40, None, "degrees; real heads 1 to 22; swapped axes give 90 or more"
    )
    centre_shift_mm: Bounds = _bounds(None, None, 4, 15, "mm; real heads .4 to 1.0")
    lost_share: Bounds = _bounds(None, None, 0.01, 0.05, "part of the brain; real heads 0 to .0006")
    brain_ml: Bounds = _bounds(
        600, 900, 2000, 2300, "ml; adults 1100 to 1900 with ventricles, a child of three 1470"
    )
    edge_cm2: Bounds = _bounds(None, None, 5, 40, "cm2; real heads 0; half a cerebellum 40")
    white_over_grey: Bounds = _bounds(
        1.0, 1.08, None, None, "ratio; real heads 1.27 to 1.68; at most 1 is no T1w", final=True
    )
    snr_white: Bounds = _bounds(3.0, 5.0, None, None, "ratio; real heads 9 to 28")
    cnr: Bounds = _bounds(0.7, 1.1, None, None, "ratio; real heads 1.98 to 2.46")
    cjv: Bounds = _bounds(None, None, 1.3, 2.0, "ratio; real heads .55 to .68")
    efc: Bounds = _bounds(None, None, 0.80, None, "0 to 1; real heads .30 to .57")
    noise_percent: Bounds = _bounds(None, None, 10, 25, "% of white matter; real heads 2.0 to 2.4")
    smoothness_mm: Bounds = _bounds(None, 1.4, 9, None, "mm; real heads 3.2 to 4.9, phantom 10")
    thickest_mm: Bounds = _bounds(
        None, None, 3, 6, "mm; 0.7 to 1.5 is usual; a hippocampus is 10 mm thick"
    )
    finest_mm: Bounds = _bounds(None, 0.4, None, None, "mm; finer voxels are interpolated")
    shortest_field_mm: Bounds = _bounds(100, 120, None, None, "mm; a brain is 130 mm wide")
    grey_levels: Bounds = _bounds(32, 64, None, None, "values; real heads 185 on, label maps 4 on")

    outlier_z: float = Field(
        default=3.5,
        gt=0,
        description="robust z, 0.6745 (x - median) / MAD, from which a scan of the site is an "
        "outlier (Iglewicz and Hoaglin 1993)",
    )
    outlier_least_scans: int = Field(
        default=8, ge=4, description="scans with a measure, from which on outliers are looked for"
    )

    same_image: float = Field(
        default=0.99,
        description="correlation of fingerprints from which two scans are one image; real heads "
        "that were turned, resampled to 1.3 mm and registered again .999 on",
    )
    same_brain: float = Field(
        default=0.5,
        description="correlation of fingerprints from which two subjects are probably one person; "
        "different people up to .30, simulated repeat scans .96 on",
    )
    other_brain: float = Field(
        default=0.35,
        description="correlation of fingerprints below which two sessions of a subject show two "
        "people",
    )
    mirrored_session: float = Field(
        default=-0.25,
        description="correlation of asymmetries below which two sessions of a subject mirror each "
        "other; one person's agree by .96 on, different people's lie between -.09 and .16",
    )
    mirrored_scan: float = Field(
        default=-0.08,
        description="correlation of a scan's asymmetry with the mean of the hospital's other "
        "people below which it may be mirrored; seven heads, each against the six others: .07 to "
        ".20, and the negative of it when mirrored",
    )
    mirrored_least_people: int = Field(
        default=20, ge=8, description="people from which on scans are held against that mean"
    )
