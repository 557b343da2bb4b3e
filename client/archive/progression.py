"""Did mild cognitive impairment become Alzheimer's disease within 36 months? From the tables alone.

**Every row of a sessions table counts, with or without an image.** An archive whose sessions were
thinned out (only visits with a scan, only the first two years) gives other labels: a patient who
progressed at a dropped visit looks stable, one whose last visits are dropped becomes unknown. So
labels are read before anything is excluded, and a hospital should keep all visits in its tables.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

from client.archive.labels import MISSING, LabelMapping, normalise
from client.archive.problems import Defect, Problem
from client.archive.scan_files import check_inside
from client.archive.tables import Table, read_table

Label = Literal["pMCI", "sMCI", "uMCI"]

HORIZON_MONTHS = 36.0
#: A visit planned for month 36 may be that much early or late.
TOLERANCE_MONTHS = 3.0
_MCI, _AD = "MCI", "AD"
_DAYS_PER_MONTH = 365.25 / 12
_SESSION_MONTH = re.compile(r"ses-[mM](\d{1,3})$")
_EXPLICIT: dict[str, Label] = {"pmci": "pMCI", "smci": "sMCI", "umci": "uMCI"}


@dataclass(frozen=True)
class FollowUp:
    """One visit: months since the patient's first one, and the plan's label given there."""

    months: float
    diagnosis: str


@dataclass(frozen=True)
class Progression:
    """What became of one patient with MCI.

    Attributes:
        label: ``pMCI`` progressed to AD within 36 months, ``sMCI`` followed up that long without,
            ``uMCI`` unknown.
        reverted: a later diagnosis was milder than an earlier one; always ``uMCI``.
        why: one sentence.
    """

    label: Label
    reverted: bool
    why: str


def progression_of(visits: Sequence[FollowUp], order: Sequence[str]) -> Progression:
    """The label at 36 months of somebody who has MCI at the first of these visits.

    ``order`` lists the diagnoses from mild to severe. A visit up to three months late still counts
    as the one of month 36, for AD and for being followed up alike.

    - milder than before at any visit up to then: unknown, stated as a reversion;
    - AD up to then: progressed;
    - otherwise stable only with a visit at month 33 or later that says MCI, and no AD between the
      horizon and a gap: of somebody with MCI at month 24 and AD at month 48, with nothing in
      between, nobody knows.
    """
    rank = {name: place for place, name in enumerate(order)}
    known = sorted(visits, key=lambda visit: visit.months)
    until = HORIZON_MONTHS + TOLERANCE_MONTHS
    within = [visit for visit in known if visit.months <= until]
    for before, after in pairwise(within):
        if rank[after.diagnosis] < rank[before.diagnosis]:
            why = f"{before.diagnosis} became {after.diagnosis} at month {after.months:.0f}"
            return Progression("uMCI", True, why)
    for visit in within:
        if visit.diagnosis == _AD:
            return Progression("pMCI", False, f"AD at month {visit.months:.0f}")
    last = max((visit.months for visit in within), default=0.0)
    if last >= HORIZON_MONTHS - TOLERANCE_MONTHS:
        return Progression("sMCI", False, f"no AD up to month {last:.0f}")
    beyond = [visit for visit in known if visit.months > until]
    if beyond and beyond[0].diagnosis == _MCI:
        return Progression("sMCI", False, f"still MCI at month {beyond[0].months:.0f}")
    if beyond:
        why = f"{beyond[0].diagnosis} at month {beyond[0].months:.0f}, no visit since {last:.0f}"
        return Progression("uMCI", False, why)
    return Progression("uMCI", False, f"followed up for {last:.0f} months only")


def read_progression(
    root: Path,
    labels: LabelMapping,
    plan_labels: Sequence[str],
    baseline: Mapping[str, str],
) -> dict[str, Progression]:
    """The progression of every patient with MCI at the session that is predicted from.

    A column ``progression`` in participants.tsv decides where it says something; else the
    diagnoses of all rows of ``sub-XX_sessions.tsv``, at the time that its column ``months`` (since
    any zero), ``date`` (ISO 8601), or ``age`` (years) tells, or names such as ``ses-M12``: the
    first of them that the first scan's row has, for all rows. Rows without that time, or whose
    diagnosis ``[labels]`` does not name, tell nothing.

    Args:
        root: the BIDS dataset.
        labels: the hospital's words and columns.
        plan_labels: must hold MCI and AD, else nobody has a progression.
        baseline: patient (``sub-XX``) to the session of the first scan, empty without sessions.

    Raises:
        SmrfedError: SMR-E204 for a table that cannot be read, SMR-E210 for a month, a date or a
            progression that cannot be, SMR-E211 for a link that leaves the archive.
    """
    root = root.resolve()
    if not {_MCI, _AD} <= set(plan_labels):
        return {}
    words = {
        value: plan_labels[index]
        for value, index in labels.indices(tuple(plan_labels)).items()
        if index is not None
    }
    try:
        explicit = _explicit(root, labels)
        out = {}
        for patient, session in baseline.items():
            stated = explicit.get(patient)
            visits = _visits(root, patient, session, labels, words)
            first = visits[0].diagnosis if visits else None
            if stated is not None:
                out[patient] = Progression(stated, False, "stated in participants.tsv")
            elif first == _MCI:
                out[patient] = progression_of(visits, plan_labels)
    except Defect as defect:
        raise defect.error() from None
    return out


def _explicit(root: Path, labels: LabelMapping) -> dict[str, Label]:
    path = root / "participants.tsv"
    table = _table(root, path)
    column = (labels.columns.progression or "progression").strip().casefold()
    if table is None or column not in table.columns or "participant_id" not in table.columns:
        return {}
    out: dict[str, Label] = {}
    for row in _rows(table):
        text = normalise(row[column])
        if text == MISSING:
            continue
        if text not in _EXPLICIT:
            raise Defect(
                Problem.BAD_VALUE,
                f"{path}: {row['participant_id']} has progression {row[column]!r}; known are "
                "pMCI, sMCI and uMCI",
            )
        out["sub-" + row["participant_id"].removeprefix("sub-")] = _EXPLICIT[text]
    return out


def _visits(
    root: Path, patient: str, session: str, labels: LabelMapping, words: Mapping[str, str]
) -> list[FollowUp]:
    """Visits from the given session on, month 0; empty where the table cannot tell."""
    path = root / patient / f"{patient}_sessions.tsv"
    table = _table(root, path)
    if table is None or "session_id" not in table.columns:
        return []
    diagnosis = labels.columns.wanted(table.columns).get("diagnosis")
    if diagnosis is None:
        return []
    rows = {"ses-" + row["session_id"].removeprefix("ses-"): row for row in _rows(table)}
    if session not in rows:
        return []
    # One clock for all rows: months since one zero and years of age cannot be mixed.
    for clock in _clocks(labels):
        months = {name: clock(row, name, table) for name, row in rows.items()}
        zero = months[session]
        if zero is not None:
            break
    else:
        return []
    word = words.get(normalise(rows[session][diagnosis]))
    if word is None:
        return []
    visits = [FollowUp(0.0, word)]
    for name, row in rows.items():
        at, word = months[name], words.get(normalise(row[diagnosis]))
        if name != session and word is not None and at is not None and at > zero:
            visits.append(FollowUp(at - zero, word))
    return sorted(visits, key=lambda visit: visit.months)


Clock = Callable[[Mapping[str, str], str, Table], float | None]


def _clocks(labels: LabelMapping) -> Iterator[Clock]:
    """Ways to tell the months of a row, since a zero that is the same for all rows."""
    columns = labels.columns
    yield partial(_cell_months, columns.months or "months", _number)
    yield partial(_cell_months, columns.date or "date", _date)
    yield partial(_cell_months, columns.age or "age", _years)
    yield _named_months


def _cell_months(
    name: str,
    read: Callable[[str], float | None],
    row: Mapping[str, str],
    session: str,
    table: Table,
) -> float | None:
    text = row.get(name.strip().casefold(), "")
    if normalise(text) == MISSING:
        return None
    value = read(text)
    if value is None or not math.isfinite(value):
        raise Defect(Problem.BAD_VALUE, f"{table.path}: {session} has {name} {text!r}")
    return value


def _named_months(_row: Mapping[str, str], session: str, _table: Table) -> float | None:
    named = _SESSION_MONTH.match(session)
    return float(named.group(1)) if named else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _years(text: str) -> float | None:
    years = _number(text.removesuffix("+"))
    return None if years is None else 12 * years


def _date(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() / 86400 / _DAYS_PER_MONTH
    except (ValueError, OverflowError, OSError):
        return None


def _table(root: Path, path: Path) -> Table | None:
    if not path.exists():
        return None
    check_inside(root, path)
    return read_table(path)


def _rows(table: Table) -> list[dict[str, str]]:
    """Whole rows; what is wrong with the others the archive's own reader tells."""
    width = len(table.columns)
    return [
        dict(zip(table.columns, cells, strict=True))
        for _, cells in table.lines
        if len(cells) == width
    ]
