"""Layered learning rates and class weights: public numbers of a plan; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# A weight is an importance of one class; beyond, one mistaken share would decide everything.
_LARGEST_WEIGHT = 20.0


class RateFactor(BaseModel):
    """Parameters whose steps are shorter than the plan's learning rate says.

    The factor comes after the clip and the noise and scales what they gave, so the step is a
    function of what was released anyway: post-processing. The clip is over all parameters together
    and the noise equal on all of them, so the signal-to-noise ratio of a parameter stays as it is.
    At most 1, so that the bound on a site's update holds as it does without.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    pattern: str = Field(min_length=1, description="of names, as in [groups]")
    factor: float = Field(gt=0, le=1, description="of training.learning_rate")


def rate_factor_of(name: str, factors: Sequence[RateFactor]) -> float:
    """The factor of one parameter: of the first pattern that matches, 1 where none does."""
    return next((f.factor for f in factors if fnmatchcase(name, f.pattern)), 1.0)


class ClassWeighting(BaseModel):
    """Weights of the classes in the loss, ``1 / (C share)``, from shares that are public.

    The weight multiplies a scan's loss before the patient's gradient is clipped: one patient still
    moves the sum by at most C. Shares that were counted at the hospitals would steer every round
    without having been noised, so a private plan refuses them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    shares: tuple[float, ...] = Field(
        default=(), description="of each class, in the order of task.labels; empty: no weights"
    )
    source: Literal["declared", "counted"] = Field(
        default="declared",
        description="declared: from the literature or a public register; counted: among the "
        "patients that are trained on, for public data only",
    )

    @property
    def weights(self) -> tuple[float, ...]:
        """Of each class; their mean over the shares is 1. Empty where the plan has none."""
        return tuple(1 / (len(self.shares) * share) for share in self.shares)

    @model_validator(mode="after")
    def _shares_are_a_distribution(self) -> ClassWeighting:
        if not self.shares:
            return self
        if min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-3:
            raise ValueError(f"class shares {self.shares} must be positive and add up to 1")
        if max(self.weights) > _LARGEST_WEIGHT:
            raise ValueError(f"a class weight exceeds {_LARGEST_WEIGHT:g}: {self.weights}")
        return self

    def refuse_contradictions(self, classes: int, kind: str, *, private: bool) -> None:
        """Raise ValueError where the weights do not fit the plan's task or its privacy."""
        if not self.shares:
            return
        if kind != "classification":
            raise ValueError("training.class_weighting is for task.kind 'classification' only")
        if len(self.shares) != classes:
            raise ValueError(
                f"training.class_weighting has {len(self.shares)} shares, not {classes}"
            )
        if private and self.source == "counted":
            raise ValueError(
                "training.class_weighting.source 'counted' would steer private rounds by exact "
                "counts of patients: declare public shares instead"
            )
