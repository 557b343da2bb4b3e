"""The plan's switches of layers A and B."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared_model.privacy.most_noise import MOST_NOISE

SiteNorm = Literal["off", "shared", "residual", "local"]
SiteMomentsUse = Literal["off", "confusion", "linear", "shift", "affine"]


class AdaptationSection(BaseModel):
    """Layers A and B: site-adaptive normalisation and aligned embeddings (science.md 3.2, 3.3)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    site_norm: SiteNorm = Field(
        default="residual",
        description="off: plain GroupNorm; shared: federated affine; residual: shared affine plus "
        "a local residual, zero at an unseen site; local: affine never leaves (FedBN-like)",
    )
    personalise: Literal["never", "after", "private"] = Field(
        default="after",
        description="after: each site fits its residual once the last global model is released, so "
        "that no un-noised site state ever steers a release; private: the residual trains in the "
        "rounds, clipped and noised together with the shared parameters, and never leaves",
    )
    personalise_steps: int = Field(default=30, ge=1)
    personalise_learning_rate: float = Field(default=0.05, gt=0)
    personalise_penalty: float = Field(
        default=0.1, ge=0, description="weight of (1/2)||residual||^2 in the local objective"
    )
    site_moments: SiteMomentsUse = Field(
        default="off",
        description="layer B, from noised class-conditional moments of every site's embeddings: "
        "confusion and linear add a term to each patient's loss; shift sets each site's residual "
        "from the released moments alone, affine the scale of its embeddings as well",
    )
    moments_every: int = Field(
        default=10, ge=1, description="moments leave after every so many rounds and after the last"
    )
    moments_noise_multiplier: float = Field(
        default=0.0,
        ge=0,
        le=MOST_NOISE,
        description="noise of one such release over its sensitivity",
    )
    moments_radius: float = Field(
        default=12.0, gt=0, description="L2 bound of one patient's embedding"
    )
    moments_weight: float = Field(
        default=0.1, ge=0, description="of the term that confusion or linear add to the loss"
    )
    moments_dimensions: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="dimensions of a public random projection of the embedding; none: all of them",
    )

    def trains_in_rounds(self, privacy_mode: str) -> bool:
        """Whether site parameters take part in the rounds' gradient steps.

        With ``personalise = "private"``: clipped and noised together with the shared ones, in mode
        ``local`` only. Otherwise only FedBN-like training without privacy.
        """
        return self.personalise == "private" or (
            privacy_mode == "none" and self.site_norm == "local"
        )

    @property
    def moments_set_the_residual(self) -> bool:
        """Whether each site's residual is a function of the released moments."""
        return self.site_moments in ("shift", "affine")

    @model_validator(mode="after")
    def _residual_where_one_is_used(self) -> AdaptationSection:
        if self.personalise == "private" and self.site_norm not in ("residual", "local"):
            raise ValueError("personalise 'private' needs site_norm 'residual' or 'local'")
        if self.moments_set_the_residual:
            use = self.site_moments
            if self.site_norm != "residual":
                raise ValueError(f"site_moments {use!r} needs site_norm 'residual'")
            if self.personalise == "private":
                raise ValueError(f"site_moments {use!r} sets the residual: personalise it after")
        if self.site_moments == "affine" and self.moments_dimensions is not None:
            raise ValueError("site_moments 'affine' scales each dimension: no moments_dimensions")
        if self.site_moments == "off" and self.moments_noise_multiplier > 0:
            raise ValueError("moments_noise_multiplier without site_moments: nothing is released")
        return self
