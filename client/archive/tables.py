"""The tables of a BIDS archive: participants.tsv and sub-XX_sessions.tsv."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from client.archive.labels import MISSING, ColumnNames, normalise
from client.archive.problems import Defect, Problem

_OLDEST = 120.0
_HIGHEST_MMSE = 30
_SEX = {"m": "M", "male": "M", "f": "F", "female": "F", "o": "O", "other": "O", MISSING: None}


@dataclass(frozen=True)
class Cell:
    """One value of a table, and the file it stands in."""

    text: str
    table: Path


#: The cells of one person or visit by meaning: diagnosis, age, sex, and the site's measures by
#: name; absent where no column is.
Facts = dict[str, Cell]


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used: the identifier (empty where it has none), and what is wrong."""

    name: str
    kind: Problem
    case: str


@dataclass(frozen=True)
class Table:
    """Rows of a TSV, in the file's order.

    Attributes:
        path: the file.
        columns: case-folded names.
        lines: number in the file and cells of each row; there may be too few or too many of them.
    """

    path: Path
    columns: tuple[str, ...]
    lines: tuple[tuple[int, tuple[str, ...]], ...]

    def facts(
        self, column: str, prefix: str, names: ColumnNames
    ) -> tuple[dict[str, Facts], tuple[BadRow, ...]]:
        """What is known of each subject or session, by identifier, and the rows that do not say.

        Args:
            column: holds the identifiers: ``participant_id`` or ``session_id``.
            prefix: ``sub-`` or ``ses-``; an identifier gets it where it lacks it.
            names: the hospital's columns.

        Raises a Defect for a missing identifier column: nothing can be known then.
        """
        if column not in self.columns:
            has = ", ".join(self.columns)
            raise Defect(Problem.MISSING_COLUMN, f"{self.path}: no {column}; it has {has}")
        meanings = names.wanted(self.columns)
        position = self.columns.index(column)
        out: dict[str, Facts] = {}
        bad: dict[str, BadRow] = {}
        nameless = []
        for number, cells in self.lines:
            text = cells[position] if position < len(cells) else ""
            name = text if text.startswith(prefix) else prefix + text
            row = dict(zip(self.columns, cells, strict=False))
            if len(cells) != len(self.columns):
                case = (
                    f"{self.path}: line {number} has {len(cells)} cells, "
                    f"the header {len(self.columns)}"
                )
                bad[name] = BadRow(name, Problem.UNREADABLE_TABLE, case)
            elif normalise(text) == MISSING or name == prefix:
                case = f"{self.path}: line {number} has no {column}"
                nameless.append(BadRow("", Problem.UNREADABLE_TABLE, case))
            elif name in out:
                bad[name] = BadRow(name, Problem.DUPLICATE_ROW, f"{self.path}: {name}")
            else:
                out[name] = {m: Cell(row[c], self.path) for m, c in meanings.items()}
        # Of two rows, nobody knows which one is right.
        usable = {name: facts for name, facts in out.items() if name not in bad}
        return usable, (*bad.values(), *nameless)


def read_table(path: Path) -> Table:
    """Read a TSV (UTF-8, with or without byte order mark); cells are stripped of blanks.

    Raises a Defect when the file is missing, is not UTF-8, is empty, or repeats a column.
    """
    try:
        # Not splitlines: it would also split at characters that occur within cells.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Defect(Problem.UNREADABLE_TABLE, f"{path}: {error}") from None
    cells = [
        (number, tuple(cell.strip() for cell in line.split("\t")))
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not cells:
        raise Defect(Problem.UNREADABLE_TABLE, f"{path}: empty")
    columns = tuple(name.casefold() for name in cells[0][1])
    if len(set(columns)) != len(columns):
        raise Defect(Problem.UNREADABLE_TABLE, f"{path}: a column twice in {', '.join(columns)}")
    return Table(path, columns, tuple(cells[1:]))


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


def read_number(cell: Cell, name: str, visit: str) -> float | None:
    """A measure such as the MMSE; None for n/a. Raises a Defect for what is no finite number."""
    text = normalise(cell.text)
    if text == MISSING:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (name == "mmse" and not 0 <= number <= _HIGHEST_MMSE):
        raise Defect(Problem.BAD_VALUE, f"{cell.table}: {visit} has {name} {cell.text!r}")
    return number
