"""Tables beside the predictions: embeddings, and predictions on corrupted scans; as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from shared_model.errors import SmrfedError
from shared_model.evaluation.table import Bools, Floats, Ints
from shared_model.evaluation.table_file import write_text

_EMBEDDED = ("model", "patient", "site", "label", "trained")
_CORRUPTED = ("kind", "severity", "patient")
_YES = {"yes": True, "no": False}
Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Embeddings:
    """N patients where a model places them before the last layer.

    Attributes:
        model: of each row: embeddings of two models lie in two spaces and are never compared.
        patient, site, label: names; a patient stands once in each model.
        trained: ``(N,)`` whether the model was trained on the patient.
        z: ``(N, E)``.
    """

    model: tuple[str, ...]
    patient: tuple[str, ...]
    site: tuple[str, ...]
    label: tuple[str, ...]
    trained: Bools
    z: Floats


@dataclass(frozen=True, eq=False)
class CorruptedTable:
    """Predictions of one arm on scans that were made worse; clean ones are the arm's own table.

    Attributes:
        labels: C classes.
        kind, patient: of each of the N rows.
        severity: ``(N,)``, from 1.
        probability: ``(N, C)``.
    """

    labels: tuple[str, ...]
    kind: tuple[str, ...]
    severity: Ints
    patient: tuple[str, ...]
    probability: Floats


def write_embeddings(table: Embeddings, path: Path) -> None:
    """Write in one step; raises SMR-E617."""
    header = [*_EMBEDDED, *(f"z_{i}" for i in range(table.z.shape[1]))]
    rows = zip(table.model, table.patient, table.site, table.label, table.trained, table.z,
               strict=True)  # fmt: skip
    _write(
        path,
        header,
        [
            [model, patient, site, label, "yes" if trained else "no", *map(_short, z)]
            for model, patient, site, label, trained, z in rows
        ],
    )


def read_embeddings(path: Path) -> Embeddings:
    """Read :func:`write_embeddings`'s file; raises SMR-E628."""

    def make(header: Sequence[str], rows: Sequence[Mapping[str, str]]) -> Embeddings:
        axes = [name for name in header if name.startswith("z_")]
        names = [(row["model"], row["patient"]) for row in rows]
        if not axes or len(set(names)) != len(names):
            raise ValueError("no column z_0, or a patient twice in one model")
        model, patient, site, label = (tuple(row[name] for row in rows) for name in _EMBEDDED[:4])
        return Embeddings(
            model,
            patient,
            site,
            label,
            trained=np.array([_YES[row["trained"]] for row in rows], dtype=bool),
            z=_numbers(rows, axes),
        )

    return _read(path, _EMBEDDED, make)


def write_corrupted(table: CorruptedTable, path: Path) -> None:
    """Write in one step; raises SMR-E617."""
    rows = zip(table.kind, table.severity, table.patient, table.probability, strict=True)
    _write(
        path,
        [*_CORRUPTED, *(f"p_{label}" for label in table.labels)],
        [[kind, int(at), patient, *map(_short, p)] for kind, at, patient, p in rows],
    )


def read_corrupted(path: Path) -> CorruptedTable:
    """Read :func:`write_corrupted`'s file; raises SMR-E628."""

    def make(header: Sequence[str], rows: Sequence[Mapping[str, str]]) -> CorruptedTable:
        labels = tuple(name.removeprefix("p_") for name in header if name.startswith("p_"))
        p = _numbers(rows, [f"p_{label}" for label in labels])
        severity = np.array([int(row["severity"]) for row in rows], dtype=np.int64)
        if len(labels) < 2 or (severity < 1).any() or (p < 0).any():
            raise ValueError("needs severities from 1 and probabilities of two classes or more")
        if (np.abs(p.sum(1) - 1) > 1e-3).any():
            raise ValueError("probabilities that do not sum to one")
        kinds, patients = (tuple(row[name] for row in rows) for name in ("kind", "patient"))
        if len(set(zip(kinds, severity.tolist(), patients, strict=True))) != len(rows):
            raise ValueError("a patient twice at one kind and severity")
        return CorruptedTable(labels, kinds, severity, patients, p)

    return _read(path, _CORRUPTED, make)


def _short(value: float) -> str:
    return f"{value:.6g}"


def _numbers(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> Floats:
    values = np.array([[float(row[name]) for name in columns] for row in rows], dtype=np.float64)
    if not all(map(math.isfinite, values.ravel())):
        raise ValueError("values that are no numbers")
    return values


def _write(path: Path, header: Sequence[object], rows: Sequence[Sequence[object]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([header, *rows])
    write_text(path, buffer.getvalue())


def _read(
    path: Path,
    needed: Sequence[str],
    make: Callable[[Sequence[str], Sequence[Mapping[str, str]]], Made],
) -> Made:
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
        lines = [line for line in lines if line]
        if len(lines) < 2 or not set(needed) <= set(lines[0]):
            raise ValueError(f"needs a row, and columns {', '.join(needed)}")
        rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
        return make(lines[0], rows)
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise SmrfedError(
            "SMR-E628",
            f"cannot read {path} beside the predictions",
            expected="a table of embeddings or of predictions on corrupted scans, as "
            "docs/evaluation.md says",
            found=f"{type(error).__name__}: {error}",
            remedy="write it again with the command that wrote the predictions",
        ) from None
