"""When data may leave: windows of local time, across midnight and changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.egress.policy import SitePolicy
from client.egress.release_hours import ReleaseHours, opens_at
from shared_model.errors import SmrfedError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def office(**changes: object) -> ReleaseHours:
    week = {"days": DAYS[:5], "start": "08:00", "end": "18:00", "timezone": "Europe/Berlin"}
    return ReleaseHours.model_validate(week | changes)


@pytest.mark.parametrize(
    ("now", "opening"),
    [
        ("2026-11-18T10:00", "2026-11-18T10:00"),  # a Wednesday
        ("2026-11-18T06:59", "2026-11-18T07:00"),
        ("2026-11-18T17:00", "2026-11-19T07:00"),
        ("2026-11-20T17:30", "2026-11-23T07:00"),  # over the weekend
        ("2026-07-17T05:59", "2026-07-17T06:00"),  # summer time
        ("2026-10-24T12:00", "2026-10-26T07:00"),  # the clock changes on that Sunday
    ],
)
def test_office_hours_open_when_the_local_clock_says_so(now: str, opening: str) -> None:
    assert opens_at((office(),), utc(now)) == utc(opening)


def test_a_window_over_midnight_belongs_to_the_day_it_begins_on() -> None:
    night = (office(days=["fri"], start="22:00", end="05:00", timezone="UTC"),)
    for now in ("2026-11-20T22:00", "2026-11-21T04:59"):
        assert opens_at(night, utc(now)) == utc(now)
    for now in ("2026-11-20T21:59", "2026-11-20T04:00"):
        assert opens_at(night, utc(now)) == utc("2026-11-20T22:00")
    assert opens_at(night, utc("2026-11-21T05:00")) == utc("2026-11-27T22:00")
    whole = (office(days=["sun"], start="00:00", end="24:00", timezone="UTC"),)
    assert opens_at(whole, utc("2026-11-22T23:59:59")) == utc("2026-11-22T23:59:59")
    assert opens_at(whole, utc("2026-11-23T00:00")) == utc("2026-11-29T00:00")


def test_without_windows_it_is_always_open() -> None:
    assert opens_at((), utc("2026-11-21T03:00")) == utc("2026-11-21T03:00")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_opening_is_the_first_moment_at_which_a_plain_clock_is_inside(data: st.DataObject) -> None:
    zone = data.draw(st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]))
    hours = st.integers(0, 23)
    start, end = data.draw(hours), data.draw(hours)
    if start == end:
        return
    days = data.draw(st.sets(st.sampled_from(DAYS), min_size=1))
    window = office(days=sorted(days), start=f"{start:02}:00", end=f"{end:02}:00", timezone=zone)
    # Away from the days on which clocks change; those have examples above.
    now = utc("2026-06-08T00:00") + timedelta(minutes=data.draw(st.integers(0, 14 * 1440)))

    def inside(moment: datetime) -> bool:
        local = moment.astimezone(ZoneInfo(zone))
        since = local.hour >= start
        if end > start:
            return since and local.hour < end and DAYS[local.weekday()] in days
        began = local if since else local - timedelta(days=1)
        return (since or local.hour < end) and DAYS[began.weekday()] in days

    opening = opens_at((window,), now)
    assert opening is not None
    assert inside(opening)
    assert inside(now) == (opening == now)
    moment = now
    while moment < opening - timedelta(minutes=15):
        assert not inside(moment)
        moment += timedelta(minutes=15)


@pytest.mark.parametrize(
    "line",
    [
        'start = "8:00"\nend = "18:00"\ntimezone = "UTC"',
        'start = "08:00"\nend = "25:00"\ntimezone = "UTC"',
        'start = "08:00"\nend = "08:00"\ntimezone = "UTC"',
        'start = "08:00"\nend = "18:00"\ntimezone = "Europe/Nowhere"',
        'start = "08:00"\nend = "18:00"\ntimezone = "../../etc/passwd"',
        'start = "08:00"\nend = "18:00"',
        'start = "08:00"\nend = "18:00"\ntimezone = "UTC"\ndays = []',
        'start = "08:00"\nend = "18:00"\ntimezone = "UTC"\ndays = ["monday"]',
        'start = "08:00"\nend = "18:00"\ntimezone = "UTC"\nhollidays = true',
    ],
)
def test_hours_that_mean_nothing_stop_the_whole_policy(tmp_path: Path, line: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(f"[[release_hours]]\n{line}\n")
    with pytest.raises(SmrfedError, match="SMR-E310"):
        SitePolicy.load(path)
