"""Which files are there, and whose series and studies they make."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from client.intake.header import DicomFile, Slice, Tags

_NOT_DICOM = (
    ".nii", ".gz", ".tgz", ".tar", ".zip", ".bz2", ".xz", ".7z", ".json", ".tsv", ".csv", ".txt",
    ".xlsx", ".xls", ".pdf", ".xml", ".html", ".jpg", ".jpeg", ".png", ".mgz", ".bval", ".bvec",
)  # fmt: skip
_SMALLEST = 132
OLDEST = 120


def candidate_files(root: Path, unreadable: list[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    """Regular files below ``root`` that might be DICOM, by path; archives are not unpacked.

    Links to folders are not followed. Folders that cannot be listed are added to ``unreadable``.
    """
    walk = os.walk(root, onerror=lambda error: unreadable.append(Path(error.filename)))
    for folder, subfolders, names in walk:
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith("._") or name.upper() == "DICOMDIR":
                continue
            if path.suffix.lower() in _NOT_DICOM:
                continue
            try:
                state = path.stat()
            except OSError:
                unreadable.append(path)
                continue
            if state.st_size > _SMALLEST and stat.S_ISREG(state.st_mode):
                yield path, state


@dataclass(frozen=True)
class SeriesFile:
    """One file of a series: where it is, its planes, and whether its end is missing."""

    path: Path
    size: int
    sop_uid: str
    slices: tuple[Slice, ...]
    cut_short: bool


@dataclass
class Series:
    """The files of one series, in the order of their paths; copies of a file are left out."""

    number: int
    uid: str
    tags: Tags
    device_serial: str
    files: list[SeriesFile] = field(default_factory=list)


@dataclass
class Study:
    """One visit to a scanner.

    ``date`` is None where no header has one that is valid; ``age_years`` where neither an age nor
    a date of birth does.
    """

    uid: str
    date: date | None = None
    time: str = ""
    age_years: int | None = None
    series: dict[str, Series] = field(default_factory=dict)


@dataclass
class Person:
    """Everything of one PatientID."""

    birth_dates: set[date] = field(default_factory=set)
    sexes: set[str] = field(default_factory=set)
    studies: dict[str, Study] = field(default_factory=dict)


class Collection:
    """People, studies and series by identifier, from files in any order.

    Args:
        name: from PatientID and issuer to the pseudonym.
    """

    def __init__(self, name: Callable[[str, str], str]) -> None:
        self.people: dict[str, Person] = {}
        self.without_id = 0
        self._name = name
        self._seen: set[tuple[str, str, str]] = set()

    def add(self, file: DicomFile) -> None:
        """Put a file where it belongs; files without a PatientID are only counted."""
        if not file.patient_id:
            self.without_id += 1
            return
        name = self._name(file.patient_id, file.issuer)
        person = self.people.setdefault(name, Person())
        if file.birth_date is not None:
            person.birth_dates.add(file.birth_date)
        if file.sex:
            person.sexes.add(file.sex)
        study = person.studies.setdefault(file.study, Study(file.study))
        _earliest(study, file)
        if study.age_years is None:
            study.age_years = file.age_years
        uid = file.series or f"number {file.series_number}"
        if uid not in study.series:
            study.series[uid] = Series(file.series_number, uid, file.tags, file.device_serial)
        if file.sop_uid:
            # An export that was copied twice holds every file twice.
            if (name, uid, file.sop_uid) in self._seen:
                return
            self._seen.add((name, uid, file.sop_uid))
        study.series[uid].files.append(
            SeriesFile(file.path, file.size, file.sop_uid, file.slices, file.cut_short)
        )


def _earliest(study: Study, file: DicomFile) -> None:
    if file.study_date is None:
        return
    if study.date is None or (file.study_date, file.study_time) < (study.date, study.time):
        study.date, study.time = file.study_date, file.study_time


def age_at(study: Study, person: Person) -> int | None:
    """Whole years at a study: as the header says, else from the date of birth."""
    if study.age_years is not None or study.date is None or len(person.birth_dates) != 1:
        return study.age_years
    (born,) = person.birth_dates
    had_birthday = (study.date.month, study.date.day) >= (born.month, born.day)
    years = study.date.year - born.year - (not had_birthday)
    return years if 0 < years <= OLDEST else None


def in_time(person: Person) -> tuple[tuple[Study, ...], bool]:
    """The studies in the order of their dates, and whether all have one that is valid.

    Without, the order is that of the lowest series number, then of the identifier.
    """
    studies = list(person.studies.values())
    dated = all(study.date is not None for study in studies)

    def place(study: Study) -> tuple[date, str, int, str]:
        first = min((series.number for series in study.series.values()), default=0)
        known = study.date if dated and study.date is not None else date.min
        return known, study.time if dated else "", first, study.uid

    return tuple(sorted(studies, key=place)), dated
