"""The hospital's clinical table, joined to the scans by pseudonym; PatientIDs are not kept."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from client.archive.labels import normalise
from client.archive.problems import Problem
from client.archive.tables import BadRow
from client.intake.options import ClinicalTable
from shared_model.errors import SmrfedError

_OLDEST = 120.0
_HIGHEST_MMSE = 30.0
_MISSING = ("", "n/a", "na", "nan", "none", "null", "-", ".", "?", "unknown", "unbekannt")
_SEX = {
    "m": "M", "male": "M", "man": "M", "mann": "M", "männlich": "M",
    "f": "F", "female": "F", "w": "F", "weiblich": "F", "frau": "F", "woman": "F",
    "o": "O", "other": "O", "d": "O", "divers": "O",
}  # fmt: skip


@dataclass(frozen=True)
class Visit:
    """One row: what is known at a visit; ``numbers`` by column, ``mmse`` among them."""

    line: int
    diagnosis: str
    day: date | None
    age: float | None
    sex: str | None
    numbers: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ClinicalRows:
    """The rows by pseudonym.

    Attributes:
        visits: of each patient.
        bad: rows that cannot be used, with the patient's pseudonym; values are not repeated.
        dated: whether there is a column with the visit's date.
        columns: names of the numbers, in the table's order of configuration.
        warnings: cells that were left out.
    """

    visits: Mapping[str, Sequence[Visit]] = field(default_factory=dict)
    bad: tuple[BadRow, ...] = ()
    dated: bool = False
    columns: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_clinical_table(
    options: ClinicalTable, name: Callable[[str, str], str], use_issuer: bool
) -> ClinicalRows:
    """Read the table and replace every PatientID by its pseudonym.

    Args:
        options: file, columns and formats.
        name: from PatientID and issuer to the pseudonym.
        use_issuer: whether the issuer is part of who somebody is.

    Raises:
        SmrfedError: SMR-E262 for a table that cannot be read or lacks a column.
    """
    text = _text(options)
    lines = text.splitlines()
    delimiter = _delimiter(options, lines[0] if lines else "")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise _unreadable(options, str(error)) from None
    header = [cell.strip() for cell in rows[0]] if rows else []
    columns = _columns(options, header, use_issuer)
    visits: dict[str, list[Visit]] = {}
    bad = []
    left_out: dict[str, int] = {}
    for line, cells in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        row = _Row(cells, columns)
        if len(cells) != len(header):
            what = f"{len(cells)} cells, the header has {len(header)}"
        elif not row.text("patient_id"):
            what = "no identifier"
        else:
            what = ""
        subject = "" if what else name(row.text("patient_id"), row.text("issuer"))
        visit, reason = (None, what) if what else _visit(line, row, options, left_out)
        if visit is None:
            # The line's number finds the row again; its values are not for reports.
            bad.append(BadRow(subject, Problem.BAD_CLINICAL_ROW, f"line {line}: {reason}"))
        else:
            visits.setdefault(subject, []).append(visit)
    bad += _without_contradictions(visits)
    numbers = (*(["mmse"] if options.mmse else []), *map(_key, options.numbers))
    warnings = tuple(
        f"{count} cells of {column} are no numbers and were left out"
        for column, count in left_out.items()
    )
    return ClinicalRows(visits, tuple(bad), options.visit_date is not None, numbers, warnings)


class _Row:
    """The cells of one row by meaning."""

    def __init__(self, cells: Sequence[str], columns: Mapping[str, int]) -> None:
        self._cells = cells
        self._columns = columns

    def text(self, meaning: str) -> str:
        position = self._columns.get(meaning)
        cell = "" if position is None or position >= len(self._cells) else self._cells[position]
        return "" if cell.strip().casefold() in _MISSING else cell.strip()

    def number(self, meaning: str) -> float | None:
        """None where the cell is empty; NaN where it is no number."""
        text = self.text(meaning)
        if not text:
            return None
        try:
            # European tables have decimal commas.
            return float(text.replace(",", ".").removesuffix("+"))
        except ValueError:
            return math.nan


def _visit(
    line: int, row: _Row, options: ClinicalTable, left_out: dict[str, int]
) -> tuple[Visit | None, str]:
    """The visit of a row, or what is wrong with it, without its values."""
    day = _day(row.text("visit_date"), options.date_formats)
    if options.visit_date is not None and day is None:
        return None, f"its date is not written as {' or '.join(options.date_formats)}"
    age = row.number("age")
    if age is not None and not 0 < age <= _OLDEST:
        return None, "an impossible age"
    sex = row.text("sex").casefold()
    if sex and sex not in _SEX:
        return None, "a sex that is not M, F or O"
    numbers = []
    for column in (*(["mmse"] if options.mmse else []), *map(_key, options.numbers)):
        value = row.number(f"number {column}")
        if value is None:
            continue
        if not math.isfinite(value) or (column == "mmse" and not 0 <= value <= _HIGHEST_MMSE):
            left_out[column] = left_out.get(column, 0) + 1
        else:
            numbers.append((column, value))
    return Visit(line, row.text("diagnosis"), day, age, _SEX.get(sex), tuple(numbers)), ""


def _without_contradictions(visits: dict[str, list[Visit]]) -> list[BadRow]:
    """One row per patient and day (or patient, without dates): rows that disagree are removed."""
    bad = []
    for subject, rows in list(visits.items()):
        by_day: dict[date | None, list[Visit]] = {}
        for row in rows:
            by_day.setdefault(row.day, []).append(row)
        left = []
        for same in by_day.values():
            if len({normalise(row.diagnosis) for row in same}) > 1:
                lines = ", ".join(str(row.line) for row in same)
                case = f"lines {lines}: several diagnoses of one patient and day"
                bad.append(BadRow(subject, Problem.BAD_CLINICAL_ROW, case))
            else:
                left.append(same[0])
        visits[subject] = left
    return bad


def _day(text: str, formats: Sequence[str]) -> date | None:
    for pattern in formats:
        for candidate in (text, text.split(" ")[0].split("T")[0]):
            try:
                return datetime.strptime(candidate, pattern).date()
            except ValueError:
                continue
    return None


def _columns(options: ClinicalTable, header: list[str], use_issuer: bool) -> dict[str, int]:
    """Meaning to position in the header; case and surrounding blanks do not count."""
    if use_issuer and options.issuer is None:
        raise _unreadable(options, "use_issuer needs the column issuer")
    wanted = {
        meaning: named
        for meaning in ("patient_id", "diagnosis", "visit_date", "age", "sex", "issuer")
        if (named := getattr(options, meaning)) is not None
    }
    if options.mmse is not None:
        wanted["number mmse"] = options.mmse
    wanted |= {f"number {_key(column)}": column for column in options.numbers}
    folded = [_key(cell) for cell in header]
    missing = [column for column in wanted.values() if folded.count(_key(column)) != 1]
    if missing:
        raise _unreadable(options, f"no column, or several, named {', '.join(missing)}")
    return {meaning: folded.index(_key(column)) for meaning, column in wanted.items()}


def _key(column: str) -> str:
    return column.strip().casefold()


def _text(options: ClinicalTable) -> str:
    try:
        content = options.path.read_bytes()
    except OSError as error:
        raise _unreadable(options, error.strerror or "cannot be opened") from None
    encodings = ("utf-8-sig", "cp1252", "latin-1")
    for encoding in encodings if options.encoding == "auto" else (options.encoding,):
        try:
            return content.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    raise _unreadable(options, f"not {options.encoding}")


def _delimiter(options: ClinicalTable, header: str) -> str:
    if options.delimiter != "auto":
        return options.delimiter
    return max("\t;,|", key=header.count)


def _unreadable(options: ClinicalTable, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E262",
        f"the clinical table {options.path} cannot be used",
        expected="a CSV or TSV with a header line and the columns that [dicom] names",
        found=found,
        remedy="correct [dicom.clinical_table] in site.toml; see docs/intake.md",
    )


def visit_of(
    rows: Sequence[Visit], day: date | None, dated: bool, window_days: int
) -> Visit | None:
    """The row that speaks for a scan of that day; None where none does.

    With dates it is the nearest one within the window (of two equally near the earlier); a scan
    without a valid date can only belong to the only row of its patient.
    """
    if not rows:
        return None
    if not dated:
        return rows[0]
    if day is None:
        return rows[0] if len(rows) == 1 else None
    dated_rows = [(abs((row.day - day).days), row.day, row) for row in rows if row.day is not None]
    near = [item for item in dated_rows if item[0] <= window_days]
    return min(near, key=lambda item: item[:2])[2] if near else None
