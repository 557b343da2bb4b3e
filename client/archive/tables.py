"""The tables of a BIDS archive: participants.tsv and sub-XX_sessions.tsv."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from client.archive.labels import MISSING, USUAL_COLUMNS, ColumnNames, normalise
from client.archive.problems import Defect, Problem

_OLDEST = 120.0
_SEX = {"m": "M", "male": "M", "f": "F", "female": "F", "o": "O", "other": "O", MISSING: None}


@dataclass(frozen=True)
class Cell:
    """One value of a table, and the file it stands in."""

    text: str
    table: Path


#: The cells of one person or visit by meaning: diagnosis, age, sex; absent where no column is.
Facts = dict[str, Cell]


@dataclass(frozen=True)
class Table:
    """Rows of a TSV by case-folded column name, in the file's order."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]

    def facts(self, column: str, prefix: str, names: ColumnNames) -> dict[str, Facts]:
        """What is known of each subject or session, by identifier.

        Args:
            column: holds the identifiers: ``participant_id`` or ``session_id``.
            prefix: ``sub-`` or ``ses-``; an identifier gets it where it lacks it.
            names: the hospital's columns.

        Raises a Defect for a missing column, an identifier without a value, and a second row.
        """
        if column not in self.columns:
            raise Defect(Problem.MISSING_COLUMN, f"{self.path}: no {column}; {self._has}")
        meanings = {m: c for m in USUAL_COLUMNS if (c := self._column(m, names)) is not None}
        out: dict[str, Facts] = {}
        repeated = []
        for number, row in enumerate(self.rows, start=1):
            name = row[column] if row[column].startswith(prefix) else prefix + row[column]
            if normalise(row[column]) == MISSING or name == prefix:
                raise Defect(Problem.UNREADABLE_TABLE, f"{self.path}: row {number} has no {column}")
            if name in out:
                repeated.append(name)
            out[name] = {m: Cell(row[c], self.path) for m, c in meanings.items()}
        if repeated:
            raise Defect(Problem.DUPLICATE_ROW, f"{self.path}: {', '.join(repeated)}")
        return out

    def _column(self, meaning: str, names: ColumnNames) -> str | None:
        named: str | None = getattr(names, meaning)
        wanted = USUAL_COLUMNS[meaning] if named is None else (named.strip().casefold(),)
        return next((name for name in wanted if name in self.columns), None)

    @property
    def _has(self) -> str:
        return f"it has {', '.join(self.columns)}"


def read_table(path: Path) -> Table:
    """Read a TSV (UTF-8, with or without byte order mark); cells are stripped of blanks.

    Raises a Defect when the file is missing, is not UTF-8, repeats a column, or has a row with more
    or fewer cells than the header.
    """
    try:
        # Not splitlines: it would also split at characters that occur within cells.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Defect(Problem.UNREADABLE_TABLE, f"{path}: {error}") from None
    cells = [
        (number, [cell.strip() for cell in line.split("\t")])
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not cells:
        raise Defect(Problem.UNREADABLE_TABLE, f"{path}: empty")
    columns = tuple(name.casefold() for name in cells[0][1])
    if len(set(columns)) != len(columns):
        raise Defect(Problem.UNREADABLE_TABLE, f"{path}: a column twice in {', '.join(columns)}")
    rows = []
    for number, row in cells[1:]:
        if len(row) != len(columns):
            raise Defect(
                Problem.UNREADABLE_TABLE,
                f"{path}: line {number} has {len(row)} cells, the header {len(columns)}",
            )
        rows.append(dict(zip(columns, row, strict=True)))
    return Table(path, columns, tuple(rows))


def read_age(cell: Cell, visit: str) -> float | None:
    """Years; None for n/a. ``89+``, as archives hide very old people, reads as 89.

    Raises a Defect for anything that is no age.
    """
    text = normalise(cell.text)
    if text == MISSING:
        return None
    try:
        age = float(text.removesuffix("+"))
    except ValueError:
        age = math.nan
    if not 0 < age <= _OLDEST:
        raise Defect(Problem.BAD_VALUE, f"{cell.table}: {visit} has age {cell.text!r}")
    return age


def read_sex(cell: Cell, visit: str) -> str | None:
    """M, F or O; None for n/a. Raises a Defect for anything else."""
    text = normalise(cell.text)
    if text not in _SEX:
        raise Defect(Problem.BAD_VALUE, f"{cell.table}: {visit} has sex {cell.text!r}")
    return _SEX[text]
