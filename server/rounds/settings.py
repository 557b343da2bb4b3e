"""How patiently the round driver talks to sites: times and retries."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from shared_model.errors import SmrfedError


class DriverSettings(BaseModel):
    """The coordinator's own settings; they decide who is accepted, and enter no number.

    The deadline and the quorum of a round are in the plan (``federation``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    poll_interval_s: float = Field(
        default=0.5, ge=0, description="seconds between two looks for replies"
    )
    retry_interval_s: float = Field(
        default=5.0,
        ge=0,
        description="seconds before a failed push is tried again; doubled with each failure of a "
        "site within a round",
    )
    silence_s: float = Field(
        default=900.0,
        gt=0,
        description="seconds without an answer after which the same bytes are pushed again: a "
        "message that died with a restarted node is never delivered by Flower itself",
    )
    failures_per_round: int = Field(
        default=5,
        ge=1,
        description="failures of a site after which nobody waits for it in this round; while "
        "others are waited for it is tried again",
    )
    site_deadline_s: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="site -> seconds that it may take, instead of the plan's round_deadline_s: "
        "more for a slow site, or less",
    )
    patience_factor: float = Field(
        default=4.0,
        ge=0,
        description="once the quorum is in, a site is waited for so many times as long as the "
        "slowest of its last five accepted answers took, once there are three; 0: always its whole "
        "deadline",
    )
    least_patience_s: float = Field(
        default=600.0, ge=0, description="never less than this, however fast a site usually is"
    )
    returning_grace_s: float = Field(
        default=30.0,
        ge=0,
        description="seconds that a round with its quorum waits for a site that only failed when "
        "it was last asked, until its failures took a deadline in all; one that was silent is "
        "asked and not waited for",
    )
    absent_grace_s: float = Field(
        default=300.0,
        ge=0,
        description="seconds that a round with its quorum waits for sites that are not connected; "
        "a site that was already absent in the round before is not waited for",
    )
    later_interval_s: float = Field(
        default=300.0,
        ge=0,
        description="seconds before a site is asked again that said that its data may not leave at "
        "this hour; no failure is counted",
    )
    later_patience_s: float = Field(
        default=4 * 86400.0,
        ge=0,
        description="seconds for which attempts are not counted while sites that may answer later "
        "would make the quorum: a weekend",
    )
    round_attempts: int = Field(
        default=3, ge=1, description="deadlines that a round without its quorum may take"
    )
    void_rounds: int = Field(
        default=5,
        ge=1,
        description="void rounds of a secure sum in a row after which the run stops",
    )
    attempt_pause_s: float = Field(
        default=300.0,
        ge=0,
        description="seconds before the next attempt, or after a void round: an outage at "
        "the coordinator fails all sites at once, long before the deadline",
    )

    def require_sites(self, sites: Collection[str]) -> None:
        """Raise SMR-E525 when ``site_deadline_s`` names anybody else: a slip would do nothing."""
        unknown = sorted(self.site_deadline_s.keys() - set(sites))
        if unknown:
            raise SmrfedError(
                "SMR-E525",
                "the driver's settings name sites that do not take part",
                expected=f"site_deadline_s for any of {', '.join(sites)}",
                found=", ".join(unknown),
                remedy="correct [driver.site_deadline_s] in the run's deployment.toml",
            )

    @classmethod
    def in_process(cls) -> DriverSettings:
        """No waiting: every site answers when it is polled."""
        return cls(
            poll_interval_s=0,
            retry_interval_s=0,
            absent_grace_s=0,
            returning_grace_s=0,
            attempt_pause_s=0,
        )
