"""What a plan says about looking at patients beside training: evaluation and calibration."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared_model.privacy.most_noise import MOST_NOISE


class EvaluationSection(BaseModel):
    """Patient-level split and bootstrap."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    test_fraction: float = Field(default=0.25, gt=0, lt=1)
    split: Literal["independent", "stratified"] = Field(
        default="independent",
        description="independent decides each patient alone; stratified keeps the shares of the "
        "labels, and is refused with privacy, because one patient would move others",
    )
    bootstrap_draws: int = Field(default=2000, ge=100)
    release_every: int = Field(
        default=0,
        ge=0,
        description="noised metrics of the test patients leave every so many rounds and after the "
        "last; 0: never",
    )
    release_noise_multiplier: float = Field(
        default=0.0,
        ge=0,
        le=MOST_NOISE,
        description="noise of one such release over its sensitivity",
    )
    early_stop_patience: int = Field(
        default=0,
        ge=0,
        description="noised releases without improvement before the rounds end; 0: never",
    )
    early_stop_release: Literal["last", "best"] = Field(
        default="last",
        description="what is released when the rounds end early: the parameters of the last round, "
        "or those that the noised releases say were best",
    )

    @model_validator(mode="after")
    def _releases_are_asked_for(self) -> EvaluationSection:
        if not self.release_every and self.release_noise_multiplier > 0:
            raise ValueError("release_noise_multiplier without release_every: nothing is released")
        if not self.release_every and self.early_stop_patience > 0:
            raise ValueError("early_stop_patience needs release_every: it uses released figures")
        if self.early_stop_release == "best" and not self.early_stop_patience:
            raise ValueError("early_stop_release 'best' needs early_stop_patience")
        return self


class CalibrationSection(BaseModel):
    """How scores become a decision once the last round is over."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rule: Literal["argmax", "prior_free"] = Field(
        default="argmax",
        description="prior_free: logits are corrected by noised statistics of the training "
        "patients, released once",
    )
    noise_multiplier: float = Field(
        default=0.0,
        ge=0,
        le=MOST_NOISE,
        description="noise of that release over its sensitivity",
    )
    unseen_sites: bool = Field(
        default=False,
        description="the release also carries moments of the scores by class, with which a "
        "hospital that took no part adapts the model without labels (layer C)",
    )
    scores_radius: float = Field(
        default=6.0, gt=0, le=100, description="L2 bound of a patient's scores in those moments"
    )

    @property
    def releases(self) -> bool:
        """Whether training patients are looked at once more, after the last round."""
        return self.rule == "prior_free" or self.unseen_sites

    @model_validator(mode="after")
    def _release_is_asked_for(self) -> CalibrationSection:
        if not self.releases and self.noise_multiplier > 0:
            raise ValueError(
                "noise_multiplier with rule 'argmax' and without unseen_sites: nothing is released"
            )
        return self
