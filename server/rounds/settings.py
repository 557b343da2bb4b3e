"""How patiently the round driver talks to sites: times and retries."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


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
        default=5, ge=1, description="transport failures after which a site is set aside"
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
    attempt_pause_s: float = Field(
        default=300.0,
        ge=0,
        description="seconds before the next attempt: an outage at the coordinator fails all sites "
        "at once, long before the deadline",
    )

    @classmethod
    def in_process(cls) -> DriverSettings:
        """No waiting: every site answers when it is polled."""
        return cls(poll_interval_s=0, retry_interval_s=0, absent_grace_s=0, attempt_pause_s=0)
