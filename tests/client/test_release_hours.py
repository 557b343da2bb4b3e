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


@settings(max_examples=200, deadline=None)
@given(
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    start=st.integers(0, 5 * 60 - 1),
    end=st.integers(1, 5 * 60),
    at=st.integers(0, 36 * 60),
)
def test_it_is_never_open_at_an_hour_outside_when_the_clock_is_put_forward(
    zone: str, start: int, end: int, at: int
) -> None:
    if start >= end:
        return
    clocks = [f"{minutes // 60:02}:{minutes % 60:02}" for minutes in (start, end)]
    window = office(days=DAYS, start=clocks[0], end=clocks[1], timezone=zone)
    day = {"America/New_York": "2026-03-08", "Australia/Lord_Howe": "2026-10-04"}
    now = utc(f"{day.get(zone, '2026-03-29')}T00:00") + timedelta(minutes=at - 18 * 60)
    opening = opens_at((window,), now)
    assert opening is not None
    local = opening.astimezone(ZoneInfo(zone))
    assert start <= 60 * local.hour + local.minute < end
    assert opens_at((window,), opening) == opening


def test_a_window_that_closes_in_the_missing_hour_closes_when_the_clock_jumps() -> None:
    night = (office(days=["sun"], start="01:30", end="02:15"),)
    assert opens_at(night, utc("2026-03-29T00:59")) == utc("2026-03-29T00:59")
    # The local clock says 03:00; until then it stayed open to 03:15.
    assert opens_at(night, utc("2026-03-29T01:00")) == utc("2026-04-04T23:30")
    # One that lies in the missing hour altogether does not open on that day.
    short = (office(days=["sun"], start="02:10", end="02:50"),)
    assert opens_at(short, utc("2026-03-28T12:00")) == utc("2026-04-05T00:10")


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
