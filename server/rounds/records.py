"""What the coordinator remembers of a round: who was accepted, who was set aside, and why."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from server.rounds.transport import LATER
from shared_model.protocol.messages import Kind

#: Why a site is missing through nobody's fault: it is asked, but not waited for, in the next round.
ABSENT = ("SMR-E501", *LATER)


class SiteOutcome(BaseModel):
    """How one site fared in one round. Participation is public; nothing here is patient data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accepted: bool
    pushes: int = Field(ge=0, description="times the instruction was sent, all attempts together")
    code: str | None = Field(default=None, description="error number when set aside")
    reason: str | None = Field(default=None, description="one sentence when set aside")
    reply_sha256: str | None = Field(
        default=None, description="digest of the authentic reply, accepted or refused"
    )
    metrics: dict[str, float] = Field(default_factory=dict, description="mode none only")
    seconds: float | None = Field(
        default=None, description="from the question to the accepted reply, by the coordinator"
    )


class RoundRecord(BaseModel):
    """One line of a run's history; times are the coordinator's own and leave it nowhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    round: int
    kind: Kind
    sites: dict[str, SiteOutcome]
    attempts: int = Field(ge=1, description="deadlines the round took to reach its quorum")
    weight: int = Field(ge=0, description="sum of the accepted sites' public weights")
    started_at: str = Field(description="ISO 8601, UTC")
    seconds: float = Field(ge=0, description="wall-clock duration")
    void: str | None = Field(
        default=None, description="why nothing was opened and the parameters stayed; secure sums"
    )
    around: tuple[RoundRecord, ...] = Field(
        default=(),
        description="the exchanges about masks that belong to this round: keys, shares, unmask",
    )

    @property
    def exchanges(self) -> tuple[RoundRecord, ...]:
        """This record and those around it, in the order in which they took place."""
        after = tuple(one for one in self.around if one.kind == "unmask")
        return (*(one for one in self.around if one.kind != "unmask"), self, *after)

    @property
    def accepted(self) -> tuple[str, ...]:
        """Names of the sites whose reply counted, in alphabetical order; of a void round none."""
        if self.void is not None:
            return ()
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
        """Names of the sites that were not connected, or whose door was closed, all the round."""
        return tuple(sorted(n for n, site in self.sites.items() if site.code in ABSENT))
