"""What the coordinator remembers of a round: who was accepted, who was set aside, and why."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SiteOutcome(BaseModel):
    """How one site fared in one round. Participation is public; nothing here is patient data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accepted: bool
    pushes: int = Field(ge=0, description="times the instruction was sent, all attempts together")
    code: str | None = Field(default=None, description="error number when set aside")
    reason: str | None = Field(default=None, description="one sentence when set aside")
    metrics: dict[str, float] = Field(default_factory=dict, description="mode none only")


class RoundRecord(BaseModel):
    """One line of a run's history; times are the coordinator's own and leave it nowhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    round: int
    kind: Literal["train", "finalise"]
    sites: dict[str, SiteOutcome]
    attempts: int = Field(ge=1, description="deadlines the round took to reach its quorum")
    weight: int = Field(ge=0, description="sum of the accepted sites' public weights")
    started_at: str = Field(description="ISO 8601, UTC")
    seconds: float = Field(ge=0, description="wall-clock duration")

    @property
    def accepted(self) -> tuple[str, ...]:
        """Names of the sites whose reply counted, in alphabetical order."""
        return tuple(sorted(name for name, site in self.sites.items() if site.accepted))

    @property
    def set_aside(self) -> dict[str, str]:
        """Site -> ``SMR-Exyz reason`` for the sites whose reply did not count."""
        return {
            name: f"{site.code} {site.reason}"
            for name, site in sorted(self.sites.items())
            if not site.accepted
        }

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the sites that were never connected during the round."""
        return tuple(sorted(n for n, site in self.sites.items() if site.code == "SMR-E501"))
