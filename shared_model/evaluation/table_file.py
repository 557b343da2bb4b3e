"""Prediction tables as CSV and JSON: written whole, read strictly."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from shared_model.errors import SmrfedError
from shared_model.evaluation.table import Floats, PredictionTable, bad_value

_NEEDED = ("patient", "site", "label", "seen")
_OPTIONAL = ("sex", "age", "field_strength_t", "vendor", "progression", "scans")
_PROBABILITY = "p_"
_SEEN = {"yes": True, "no": False}
_MISSING = ("", "n/a")
_SHOWN = 5


def to_csv(table: PredictionTable) -> str:
    """The table as CSV; numbers are written so that reading gives the same bits."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = [_PROBABILITY + name for name in table.labels]
    writer.writerow([*_NEEDED, *columns, *_OPTIONAL])
    for i, patient in enumerate(table.patient):
        writer.writerow(
            [
                patient,
                table.site[i],
                table.labels[table.label[i]],
                "yes" if table.seen[i] else "no",
                *(repr(float(p)) for p in table.probability[i]),
                table.sex[i] or "",
                _number_text(table.age[i]),
                _number_text(table.field_strength_t[i]),
                table.vendor[i] or "",
                table.progression[i] or "",
                int(table.scans[i]),
            ]
        )
    return buffer.getvalue()


def write_csv(table: PredictionTable, path: Path) -> None:
    """Write the table in one step; raises SMR-E617."""
    write_text(path, to_csv(table))


def read_csv(path: Path) -> PredictionTable:
    """Read a table.

    Raises:
        SmrfedError: SMR-E610 (no file, no text or no row), SMR-E611 (a column is missing, unknown
            or doubled), SMR-E612 (a value), SMR-E613 (a patient twice); each names the file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    lines = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    if len(lines) < 2:
        raise _unreadable(path, "an empty file" if not lines else "a header without rows")
    header = [name.strip() for name in lines[0]]
    ragged = [number for number, row in enumerate(lines[1:], 2) if len(row) != len(header)]
    if ragged:
        raise _unreadable(path, f"row {ragged[0]} has not as many cells as the header")
    labels = _labels(path, header)
    rows = [dict(zip(header, (cell.strip() for cell in row), strict=True)) for row in lines[1:]]
    return _naming(path, lambda: _table(labels, rows))


def to_json(table: PredictionTable) -> str:
    """The table as JSON: the same columns as lists."""
    numbers = {name: _numbers(getattr(table, name)) for name in ("age", "field_strength_t")}
    content: dict[str, Any] = {
        "labels": list(table.labels),
        "patient": list(table.patient),
        "site": list(table.site),
        "label": [table.labels[y] for y in table.label],
        "probability": table.probability.tolist(),
        "seen": [bool(seen) for seen in table.seen],
        "sex": list(table.sex),
        "vendor": list(table.vendor),
        "progression": list(table.progression),
        "scans": table.scans.tolist(),
        **numbers,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def from_json(text: str, source: str = "table") -> PredictionTable:
    """Read :func:`to_json`'s text; raises SMR-E610 to E613."""
    try:
        content = json.loads(text)
        labels = tuple(content["labels"])
        known = {name: index for index, name in enumerate(labels)}
        table: dict[str, Any] = {
            "patient": tuple(content["patient"]),
            "site": tuple(content["site"]),
            "label": np.array([known.get(name, -1) for name in content["label"]], dtype=np.int64),
            "probability": np.array(content["probability"], dtype=np.float64).reshape(
                -1, len(labels)
            ),
            "seen": np.array(content["seen"], dtype=bool),
            "scans": np.array(content["scans"], dtype=np.int64),
            **{name: tuple(content[name]) for name in ("sex", "vendor", "progression")},
            **{
                name: np.array([math.nan if v is None else v for v in content[name]], np.float64)
                for name in ("age", "field_strength_t")
            },
        }
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(Path(source), f"{type(error).__name__}: {error}") from None
    return _naming(Path(source), lambda: PredictionTable(labels, **table))


def write_text(path: Path, text: str) -> None:
    """Replace a file by this text in one step; raises SMR-E617."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise SmrfedError(
            "SMR-E617",
            f"cannot write {path}",
            found=error,
            remedy="check free space and permissions, or choose another folder",
        ) from None


def _labels(path: Path, header: Sequence[str]) -> tuple[str, ...]:
    labels = tuple(n.removeprefix(_PROBABILITY) for n in header if n.startswith(_PROBABILITY))
    missing = [name for name in _NEEDED if name not in header]
    if len(labels) < 2:
        missing.append("p_CLASS of at least two classes")
    known = {*_NEEDED, *_OPTIONAL, *(_PROBABILITY + label for label in labels)}
    unknown = [name for name in header if name not in known]
    twice = sorted({name for name in header if header.count(name) > 1})
    if missing or unknown or twice:
        told = {"missing": missing, "unknown": unknown, "twice": twice}
        raise SmrfedError(
            "SMR-E611",
            f"{path} does not have the columns of a table of predictions",
            expected=f"{', '.join(_NEEDED)}, a column p_CLASS per class; and, where known, "
            f"{', '.join(_OPTIONAL)}",
            found="; ".join(f"{what}: {', '.join(names)}" for what, names in told.items() if names),
            remedy="write the table with these columns; docs/evaluation.md says what each holds",
        )
    return labels


def _table(labels: tuple[str, ...], rows: Sequence[Mapping[str, str]]) -> PredictionTable:
    known = {name: index for index, name in enumerate(labels)}
    problems: list[str] = []

    def number(row: Mapping[str, str], column: str) -> float:
        text = row.get(column, "")
        if text in _MISSING:
            return math.nan
        try:
            return float(text)
        except ValueError:
            problems.append(f"{column} of {row['patient']} is {text!r}")
            return math.nan

    def texts(column: str) -> tuple[str | None, ...]:
        return tuple(None if row.get(column, "") in _MISSING else row[column] for row in rows)

    for row in rows:
        if not row["patient"] or not row["site"]:
            problems.append(f"a row without patient or site: {list(row.values())[:3]}")
        if row["label"] not in known:
            problems.append(f"label of {row['patient']} is {row['label']!r}")
        if row["seen"] not in _SEEN:
            problems.append(f"seen of {row['patient']} is {row['seen']!r}, not yes or no")
    scans = np.array([number(row, "scans") for row in rows])
    columns: dict[str, Any] = {
        "patient": tuple(row["patient"] for row in rows),
        "site": tuple(row["site"] for row in rows),
        "label": np.array([known.get(row["label"], -1) for row in rows], dtype=np.int64),
        "probability": np.array(
            [[number(row, _PROBABILITY + name) for name in labels] for row in rows]
        ),
        "seen": np.array([_SEEN.get(row["seen"], False) for row in rows], dtype=bool),
        "sex": texts("sex"),
        "age": np.array([number(row, "age") for row in rows]),
        "field_strength_t": np.array([number(row, "field_strength_t") for row in rows]),
        "vendor": texts("vendor"),
        "progression": texts("progression"),
        "scans": np.where(np.isnan(scans), 1, scans).astype(np.int64),
    }
    if problems:
        shown = problems[:_SHOWN]
        more = len(problems) - len(shown)
        raise bad_value([*shown, f"and {more} more"] if more else shown)
    return PredictionTable(labels, **columns)


def _naming(path: Path, make: Any) -> PredictionTable:
    """A mistake in a file says which file it is."""
    try:
        table: PredictionTable = make()
    except SmrfedError as error:
        raise SmrfedError(
            error.code,
            f"{error.what}: {path}",
            expected=error.expected,
            found=error.found,
            remedy=error.remedy,
        ) from None
    return table


def _unreadable(path: Path, why: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E610",
        f"cannot read a table of predictions: {path}",
        expected="UTF-8 text, comma separated, a header and one row per patient",
        found=why,
        remedy="name the CSV of an arm, as smrfed-sim writes it to predictions/",
    )


def _number_text(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def _numbers(values: Floats) -> list[float | None]:
    return [None if math.isnan(v) else float(v) for v in values]
