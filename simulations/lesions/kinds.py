"""What lesions look like: how many, how large, how bright."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class LesionKind(BaseModel):
    """Ellipsoids in brain tissue; greys are canonical (CSF 0.18, grey 0.62, white 1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    count: tuple[int, int] = Field(description="per scan that has any, from and to")
    semi_axes_mm: tuple[float, float] = Field(description="drawn for each axis, from and to")
    greys: tuple[tuple[float, float], ...] = Field(
        description="ranges, one of which each lesion takes its grey from"
    )
    tissue: float = Field(
        default=0.5, description="centres lie where the grey is above this: no fluid"
    )
    without: float = Field(default=0.15, ge=0, le=1, description="share of scans without a lesion")
    gap_mm: float = Field(default=8.0, ge=0, description="at least between the rims of two lesions")


#: Cavities darker than CSF, as an old infarct is on T1, of 7 to 45 ml.
STROKE_LIKE = LesionKind(
    name="stroke-like",
    count=(1, 3),
    semi_axes_mm=(12.0, 22.0),
    greys=((0.03, 0.12),),
)
#: Dark spots of 0.5 to 1.8 ml in white matter: larger than microbleeds are, because the study's
#: voxels are 4 mm.
MICROBLEED_LIKE = LesionKind(
    name="microbleed-like",
    count=(2, 6),
    semi_axes_mm=(5.0, 7.5),
    greys=((0.01, 0.03),),
    tissue=0.85,
)
KINDS = {kind.name: kind for kind in (STROKE_LIKE, MICROBLEED_LIKE)}
