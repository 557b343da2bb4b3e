"""When data may leave: the policy's hours, and how much within any 24 of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from client.egress.policy import SitePolicy
from client.egress.receipts import Receipt
from client.egress.release_hours import opens_at
from shared_model.errors import SmrfedError
from shared_model.protocol.messages import MASK_KINDS

_DAY = timedelta(hours=24)
#: Refusals that time alone settles: the same answer may leave later.
CLOSED = ("SMR-E360", "SMR-E361")


def require_open(
    policy: SitePolicy, receipts: Iterable[Receipt], data_bytes: int, now: datetime
) -> None:
    """Return when ``data_bytes`` of data may leave at ``now`` (UTC).

    Raises SMR-E360 outside the release hours and SMR-E361 beyond the limits of 24 hours, both with
    the time at which it may leave. Neither depends on a patient: the hours are the hospital's own,
    the counts are those of replies, whose number and size are public.
    """
    opening = opens_at(policy.release_hours, now)
    if opening != now:
        raise SmrfedError(
            "SMR-E360",
            "data may not leave this hospital at this hour",
            expected="; ".join(window.text() for window in policy.release_hours),
            found=f"{_minute(now)}; opens at {'never' if opening is None else _minute(opening)}",
            remedy="nothing needs to be done: the coordinator asks again; or change release_hours",
        )
    if policy.max_releases_per_day is None and policy.max_bytes_per_day is None:
        return
    recent = _recent(receipts, now)
    for field, limit, spent, wanted in (
        ("max_releases_per_day", policy.max_releases_per_day, [1 for _ in recent], 1),
        ("max_bytes_per_day", policy.max_bytes_per_day, [size for _, size in recent], data_bytes),
    ):
        if limit is not None and sum(spent) + wanted > limit:
            free = _free_at([time for time, _ in recent], spent, limit - wanted)
            raise SmrfedError(
                "SMR-E361",
                "as much has left this hospital as may leave in 24 hours",
                expected=f"{field} = {limit}",
                found=f"{sum(spent)} and {wanted} more; "
                f"opens at {'never' if free is None else _minute(free)}",
                remedy="nothing needs to be done: the coordinator asks again; or raise the limit",
            )


def _recent(receipts: Iterable[Receipt], now: datetime) -> list[tuple[datetime, int]]:
    """Time and bytes of the releases of the last 24 hours, oldest first.

    Without replies that are empty or hold keys and shares of masks: nothing about patients.
    """
    times = (
        (datetime.fromisoformat(receipt.time), receipt.decision.bytes)
        for receipt in receipts
        if receipt.decision.released
        and receipt.decision.kind not in MASK_KINDS
        and (receipt.decision.bytes or receipt.decision.metrics)
    )
    return [(time, size) for time, size in times if time > now - _DAY]


def _free_at(times: list[datetime], spent: list[int], room: int) -> datetime | None:
    """When enough of the past is older than a day."""
    left = sum(spent)
    for time, size in zip(times, spent, strict=True):
        left -= size
        if left <= room:
            return time + _DAY
    return None


def _minute(time: datetime) -> str:
    # Rounded up, so that whoever comes at this minute is not too early.
    rounded = time.astimezone(UTC)
    if rounded.second or rounded.microsecond:
        rounded = rounded.replace(second=0, microsecond=0) + timedelta(minutes=1)
    return rounded.strftime("%Y-%m-%dT%H:%MZ")
