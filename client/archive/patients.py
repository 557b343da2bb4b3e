"""A hospital's patients and scans, as training and evaluation see them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Scan:
    """One T1w image of one visit; ``label`` indexes the plan's labels, ``age`` is in years.

    ``measures`` are the further numbers that the site's ``[columns]`` name, ``mmse`` among them.
    ``clinical`` are cells as they are written, by the name of a clinical variable; what a plan
    asks for is read by :mod:`client.archive.clinical`.
    """

    session: str
    path: Path
    label: int
    age: float | None
    measures: tuple[tuple[str, float], ...] = ()
    clinical: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Patient:
    """All scans of one person at this hospital: the unit of privacy, of the split and of metrics.

    ``label`` and ``age`` are those of the first visit.
    """

    id: str
    sex: str | None
    scans: tuple[Scan, ...]

    @property
    def label(self) -> int:
        """Diagnosis at the first visit, as an index into the plan's labels."""
        return self.scans[0].label

    @property
    def age(self) -> float | None:
        """Age in years at the first visit."""
        return self.scans[0].age
