"""When a patient's visits were, in whole months since the first scan: dates are not kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

from client.intake.bids_writer import FollowUpRecord
from client.intake.clinical_table import Visit

_DAYS_PER_MONTH = 365.25 / 12


def months_after(first: date | None, day: date | None) -> int | None:
    """Whole months from the first scan to a day, rounded; None where one of them is unknown."""
    if first is None or day is None:
        return None
    return round((day - first).days / _DAYS_PER_MONTH)


def follow_ups(
    rows: Sequence[Visit], first: date | None, scanned: Collection[int]
) -> tuple[FollowUpRecord, ...]:
    """The rows of the clinical table after the first scan that speak for no scan.

    What became of a patient is told by all visits, most of them without a scan; earlier ones say
    nothing about it and are not written.

    Args:
        rows: of one patient.
        first: day of the first scan that is written.
        scanned: lines of the rows that speak for a scan.
    """
    later = sorted(
        (row.day, row.line, row)
        for row in rows
        if row.day is not None and first is not None and row.day > first and row.line not in scanned
    )
    out = []
    for number, (day, _, row) in enumerate(later, start=1):
        months = months_after(first, day)
        assert months is not None
        out.append(
            FollowUpRecord(f"ses-f{number:02d}", months, row.age, row.diagnosis, dict(row.numbers))
        )
    return tuple(out)
