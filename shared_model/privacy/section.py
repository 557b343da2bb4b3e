"""The plan's privacy section: the mode, the unit, and the mechanism of training."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared_model.privacy.most_noise import MOST_NOISE

PrivacyMode = Literal["none", "local", "distributed", "central"]
PrivacyUnit = Literal["patient", "hospital"]

#: Modes in which a round is one sum over all hospitals, noised once, of which nobody sees a part.
SUMMED: tuple[PrivacyMode, ...] = ("distributed", "central")


class PrivacySection(BaseModel):
    """The guarantee that every site enforces (reference: science.md section 4)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mode: PrivacyMode = Field(
        default="local",
        description="local: each site adds all the noise of its own update; distributed: the sites "
        "add shares of the noise to one securely aggregated sum; central: the coordinator, who is "
        "trusted, adds it to that sum; none: public or synthetic data only",
    )
    unit: PrivacyUnit = Field(
        default="patient",
        description="whose presence is hidden: a patient with all scans and visits, or everything "
        "that a hospital's patients contribute (distributed and central only)",
    )
    epsilon: float = Field(default=8.0, gt=0, description="budget of this plan, add-or-remove-one")
    delta: float = Field(default=1e-5, gt=0, lt=1)
    noise_multiplier: float = Field(
        default=0.0,
        ge=0,
        le=MOST_NOISE,
        description="noise standard deviation over the clipping norm",
    )
    clipping_norm: float = Field(
        default=1.0, gt=0, description="L2 bound of one patient's gradient"
    )
    clipping: Literal["fixed", "adaptive"] = Field(
        default="fixed",
        description="adaptive: the bound follows a private quantile of the patients' gradient "
        "norms (Andrew et al. 2021), from clipping_norm, which it never exceeds, downwards",
    )
    clip_quantile: float = Field(
        default=0.5, gt=0, lt=1, description="share of drawn patients whose norm is to be unclipped"
    )
    clip_learning_rate: float = Field(
        default=0.2, gt=0, le=2, description="geometric step of the bound per unit of error"
    )
    clip_share: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="share of a step's privacy (of 1/noise_multiplier^2) that the count takes",
    )

    @property
    def summed(self) -> bool:
        """Whether a round is one sum over all hospitals: modes ``distributed`` and ``central``."""
        return self.mode in SUMMED

    @model_validator(mode="after")
    def _noise_when_private(self) -> PrivacySection:
        if self.mode != "none" and self.noise_multiplier <= 0:
            raise ValueError(f"privacy mode {self.mode!r} needs noise_multiplier > 0")
        if self.mode == "none" and self.noise_multiplier > 0:
            raise ValueError("privacy mode 'none' adds no noise: set noise_multiplier to 0")
        return self

    @model_validator(mode="after")
    def _hospitals_are_hidden_in_a_sum(self) -> PrivacySection:
        if self.unit == "hospital" and not self.summed:
            raise ValueError(
                f"privacy.unit 'hospital' has no meaning in mode {self.mode!r}, where every "
                "hospital's update is seen: set mode to 'distributed' or 'central', or unit to "
                "'patient'"
            )
        return self
