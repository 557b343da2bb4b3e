"""Quality control in numbers, from the tables that ``prepare`` wrote; they stay here."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class QualityCounts:
    """Scans by verdict, how many training gets, and what was left out by error number."""

    scans: int
    used: int
    verdicts: Mapping[str, int] = field(default_factory=dict)
    excluded: Mapping[str, int] = field(default_factory=dict)
    page: bool = False


def quality_counts(folder: Path) -> QualityCounts | None:
    """Read the tables of the derivatives folder; None where nothing was prepared yet."""
    scans, excluded = _rows(folder / "quality.tsv"), _rows(folder / "excluded.tsv")
    page = (folder / "quality.html").is_file()
    if scans is None and excluded is None and not page:
        return None
    rows = scans or []
    return QualityCounts(
        scans=len(rows),
        used=sum(row.get("used") == "yes" for row in rows),
        verdicts=dict(Counter(str(row.get("verdict")) for row in rows)),
        excluded=dict(sorted(Counter(str(row.get("code")) for row in excluded or []).items())),
        page=page,
    )


def _rows(path: Path) -> list[dict[str, str]] | None:
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, csv.Error):
        return None
