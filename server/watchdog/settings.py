"""How often, and for how long, the watchdog tries."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class WatchdogSettings(BaseModel):
    """Seconds, and a limit of attempts that brought nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    interval_s: float = Field(default=5.0, gt=0, description="between two looks")
    backoff_s: float = Field(
        default=10.0, ge=0, description="before the first new start; doubled with every failure"
    )
    longest_backoff_s: float = Field(default=3600.0, ge=0)
    attempts: int = Field(
        default=8, ge=1, description="failures in a row without progress, then a person is needed"
    )
    wait_s: float = Field(
        default=600.0, ge=0, description="before a run is started again that lacks sites or space"
    )
    patience_s: float = Field(
        default=7 * 86400.0, ge=0, description="for how long such a run is started again"
    )

    pending_s: float = Field(
        default=120.0, ge=0, description="before it is told that nobody takes a started run"
    )
    silent_s: float = Field(
        default=3600.0, gt=0, description="without a sign of life before a driver is ended"
    )
    leaving_s: float = Field(
        default=600.0, gt=0, description="the same for one whose Flower run is over"
    )

    def pause(self, failures: int) -> float:
        """Seconds before the next start, after so many failures in a row."""
        return float(min(self.backoff_s * 2 ** min(failures - 1, 20), self.longest_backoff_s))
