"""The hours in which data may leave a hospital, in the hospital's own time zone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MINUTE = timedelta(minutes=1)
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")


class ReleaseHours(BaseModel):
    """One window: on these days from ``start`` until ``end``, which may lie after midnight.

    Times are those of the wall clock in ``timezone``; in the hour that a change to summer time
    leaves out, a window opens an hour later, and closes when the clock is put forward.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: tuple[Day, ...] = Field(default=_DAYS, min_length=1, description="days it opens on")
    start: str = Field(description="HH:MM at which it opens")
    end: str = Field(description="HH:MM at which it closes, up to 24:00; before start: next day")
    timezone: str = Field(description="IANA name, for example Europe/Berlin")

    @field_validator("start", "end")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        if not _CLOCK.fullmatch(value):
            raise ValueError("a time is HH:MM, 00:00 to 24:00")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"no such time zone here: {value!r}") from error
        return value

    @model_validator(mode="after")
    def _is_not_empty(self) -> ReleaseHours:
        if self.start == self.end or self.start == "24:00":
            raise ValueError("start and end are the same, or start is 24:00")
        return self

    def on(self, day: date) -> tuple[datetime, datetime] | None:
        """Opening and closing (UTC) of the window that begins on this local day, if one does."""
        if _DAYS[day.weekday()] not in self.days:
            return None
        last = day + timedelta(days=self.end <= self.start)
        opening, closing = self._at(day, self.start), self._closing(last)
        return (opening, closing) if opening < closing else None

    def _closing(self, day: date) -> datetime:
        closing = self._at(day, self.end)
        # Where the clock never shows that time, it is some minutes past it already: go back to the
        # moment at which it jumped.
        zone, shown = (
            ZoneInfo(self.timezone),
            timedelta(hours=int(self.end[:2]) % 24, minutes=int(self.end[3:])),
        )
        local = closing.astimezone(zone)
        past = timedelta(hours=local.hour, minutes=local.minute) - shown
        while past and (closing - _MINUTE).astimezone(zone).utcoffset() == local.utcoffset():
            closing -= _MINUTE
        return closing

    def _at(self, day: date, clock: str) -> datetime:
        if clock == "24:00":
            day, clock = day + timedelta(days=1), "00:00"
        local = datetime.combine(day, clock_time.fromisoformat(clock), ZoneInfo(self.timezone))
        return local.astimezone(UTC)

    def text(self) -> str:
        """As a person reads it."""
        return f"{', '.join(self.days)} {self.start} to {self.end} ({self.timezone})"


def opens_at(windows: Sequence[ReleaseHours], now: datetime) -> datetime | None:
    """When data may leave next, in UTC: ``now`` itself inside a window, or with no windows at all.

    ``None`` when nothing opens within eight days, which the policy's own checks exclude.
    """
    if not windows:
        return now
    # A window that began yesterday may still be open; every window opens within a week.
    spans = [
        span
        for window in windows
        for offset in range(-2, 9)
        if (span := window.on(now.astimezone(ZoneInfo(window.timezone)).date() + _days(offset)))
    ]
    if any(start <= now < end for start, end in spans):
        return now
    return min((start for start, _ in spans if start > now), default=None)


def _days(count: int) -> timedelta:
    return timedelta(days=count)
