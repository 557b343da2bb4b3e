"""What a cohort of synthetic connectomes is drawn from."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

LABELS = ("control", "case")


class ConnectomeSpec(BaseModel):
    """Sizes, effects and site effects; the seed fixes anatomy, people and planted edges.

    A planted edge differs between the classes by ``effect`` standard deviations of people. In the
    task ``interaction`` structural and functional planted edges are up or down by a coin each, and
    a patient is a case where the coins agree: neither modality alone says anything.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0, description="of the people")
    anatomy: int = Field(
        default=0, ge=0, description="seed of template and planted edges, which cohorts may share"
    )
    sites: tuple[str, ...] = ("harbour", "hill", "lake", "plain")
    patients: int = Field(default=120, ge=4, description="at each site")
    regions: int = Field(default=20, ge=8, le=200)
    planted: int = Field(default=10, ge=1, description="edges per modality that carry the label")
    effect: float = Field(default=0.8, ge=0, description="in standard deviations between people")
    coupling: float = Field(
        default=0.5, ge=0, le=1, description="mean over regions of the planted coupling"
    )
    site_effects: float = Field(default=1.0, ge=0, description="0: all scanners are alike")
    missing: float = Field(
        default=0.0, ge=0, lt=1, description="probability that a patient lacks one modality"
    )
    task: Literal["main", "interaction"] = "main"
