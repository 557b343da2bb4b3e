"""Read a hospital's archive in BIDS, and find everything that is wrong with it before training."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from client.archive.content import file_sha256, files_of_several_patients
from client.archive.labels import CLINICAL, MISSING, USUAL_COLUMNS, LabelMapping, normalise
from client.archive.nifti import check_header
from client.archive.patients import Patient, Scan
from client.archive.problems import Defect, Exclusion, Problem, Problems
from client.archive.scan_files import ScanFile, check_inside, scan_files, subject_folders
from client.archive.sidecar import check_modality
from client.archive.tables import (
    Cell,
    Facts,
    Table,
    read_age,
    read_number,
    read_sex,
    read_table,
)
from shared_model.errors import SmrfedError

_log = logging.getLogger(__name__)
#: The label of scans that are looked at before there is a plan.
UNLABELLED = -1


@dataclass(frozen=True)
class ArchiveSurvey:
    """What of an archive can be used, and everything that cannot.

    Attributes:
        patients: by identifier; all their scans passed what headers and tables can tell.
        exclusions: every defect of a scan, a row or a subject, in the order it was found.
        without_image: people that ``missing_images = "skip"`` leaves out; no defect.
        without_label: scans whose diagnosis stands under ``exclude`` in ``[labels]``; no defect.
    """

    patients: tuple[Patient, ...]
    exclusions: tuple[Exclusion, ...]
    without_image: int
    without_label: int


def survey_bids_archive(
    root: Path,
    labels: LabelMapping,
    plan_labels: tuple[str, ...],
    digest: Callable[[Path], str] = file_sha256,
) -> ArchiveSurvey:
    """What of a BIDS raw dataset can be used; every defect is listed, and the rest is read.

    A subject with several sessions is one patient; its scans are in the order of age, then of the
    session's name. Where the image that stands for a session cannot be used, the session's next
    one takes its place. Voxels are not read: what only they can tell is told when scans are
    prepared.

    Args:
        root: folder with dataset_description.json and participants.tsv.
        labels: the hospital's words for the plan's labels, and how its tables are read.
        plan_labels: class names in logit order; none: diagnoses are not looked at, and every scan
            has the label ``UNLABELLED``, which nothing can be trained on.
        digest: SHA-256 of a file; may remember files from earlier.

    Raises:
        SmrfedError: what makes the whole archive unusable: SMR-E203, E204, E205, E211 or E222 for
            its description and participants.tsv, E216 when no scan is left (or the number of what
            took them all), E217 when all have one label, E219.
    """
    survey, reader = _survey(root, labels, plan_labels, digest)
    if not survey.patients and survey.exclusions:
        reader.problems.raise_any()
    _check_enough(survey, reader, plan_labels)
    return survey


def read_bids_archive(
    root: Path, labels: LabelMapping, plan_labels: tuple[str, ...]
) -> tuple[Patient, ...]:
    """All patients of an archive without a single defect; see :func:`survey_bids_archive`.

    Raises:
        SmrfedError: SMR-E203 to E224, naming file, value and remedy; all cases of a kind together.
    """
    survey, reader = _survey(root, labels, plan_labels)
    reader.problems.raise_any()
    _check_enough(survey, reader, plan_labels)
    return survey.patients


def _survey(
    root: Path,
    labels: LabelMapping,
    plan_labels: tuple[str, ...],
    digest: Callable[[Path], str] = file_sha256,
) -> tuple[ArchiveSurvey, _Reader]:
    indices = labels.indices(plan_labels) if plan_labels else None
    root = root.resolve()
    _check_description(root)
    reader = _Reader(root, labels, indices, digest)
    patients = reader.read()
    survey = ArchiveSurvey(
        patients, reader.problems.exclusions, reader.without_image, reader.without_label
    )
    return survey, reader


def _check_enough(survey: ArchiveSurvey, reader: _Reader, plan_labels: tuple[str, ...]) -> None:
    if not survey.patients:
        raise SmrfedError(
            "SMR-E216",
            f"the archive {reader.root} has no scan to train on",
            expected="sub-XX[/ses-YY]/anat/*_T1w.nii.gz of people with a mapped diagnosis",
            found=f"{reader.rows} people in participants.tsv, {reader.images} T1w images, "
            f"{reader.without_label} of them excluded by [labels]",
            remedy="check archive and [labels] in site.toml; see docs/archive.md",
        )
    if not plan_labels:
        return
    present = {scan.label for patient in survey.patients for scan in patient.scans}
    if len(present) < 2:
        counts = Counter(exclusion.code for exclusion in survey.exclusions)
        left_out = ", ".join(f"{count} by {code}" for code, count in sorted(counts.items()))
        raise SmrfedError(
            "SMR-E217",
            f"every scan of the archive {reader.root} has the same label",
            expected=f"at least two of {', '.join(plan_labels)}",
            found=plan_labels[present.pop()] + (f" (excluded: {left_out})" if left_out else ""),
            remedy="check [labels] in site.toml; a hospital with one class cannot take part",
        )


@dataclass(frozen=True)
class _About:
    """What the tables say about one scan."""

    label: int
    age: float | None
    sex: str | None
    measures: tuple[tuple[str, float], ...]
    clinical: tuple[tuple[str, str], ...]


class _Reader:
    """One pass over an archive; what is wrong is collected, and the rest is read."""

    def __init__(
        self,
        root: Path,
        labels: LabelMapping,
        indices: dict[str, int | None] | None,
        digest: Callable[[Path], str],
    ) -> None:
        self.root = root
        self.problems = Problems()
        self.rows = 0
        self.images = 0
        self.without_image = 0
        self.without_label = 0
        self._labels = labels
        self._indices = indices
        self._digest = digest
        self._participants = root / "participants.tsv"

    def read(self) -> tuple[Patient, ...]:
        """The patients with a scan that can be used; raises for an unusable participants.tsv."""
        people = self._people()
        self.rows = len(people)
        files = {
            folder.name: scan_files(self.root, folder, self.problems)
            for folder in subject_folders(self.root, self.problems)
        }
        self.images = sum(map(len, files.values()))
        self._compare(people, files)
        patients = []
        for name in sorted(people):
            with self.problems.noting(subject=name, path=self.root / name):
                patient = self._patient(name, people[name], files.get(name, ()))
                if patient is not None:
                    patients.append(patient)
        return self._without_copies(patients)

    def _people(self) -> dict[str, Facts]:
        path = self._participants
        # A link to nowhere is there, and is told as what it is.
        if not path.exists() and not path.is_symlink():
            raise Defect(Problem.NO_PARTICIPANTS, f"{path} does not exist").error()
        try:
            people, bad = self._table(path).facts("participant_id", "sub-", self._labels.columns)
        except Defect as defect:
            raise defect.error() from None
        for row in bad:
            self.problems.add(row.kind, row.case, subject=row.name, path=path)
        return people

    def _table(self, path: Path) -> Table:
        check_inside(self.root, path)
        return read_table(path)

    def _compare(self, people: dict[str, Facts], files: dict[str, tuple[ScanFile, ...]]) -> None:
        bad = {exclusion.subject for exclusion in self.problems.exclusions}
        for name, found in files.items():
            if name in people or name in bad:
                continue
            for file in found:
                self.problems.add(
                    Problem.NO_ROW,
                    f"{file.path}: no {name} in participants.tsv",
                    subject=name,
                    session=file.session,
                    path=file.path,
                )
        without = [
            name
            for name, facts in people.items()
            if not files.get(name) and name not in bad and not self._is_excluded(facts)
        ]
        if without and self._labels.missing_images == "skip":
            _log.warning("%d people without an image are left out", len(without))
            self.without_image = len(without)
            return
        for name in without:
            path = self._participants
            self.problems.add(Problem.NO_IMAGE, f"{path}: {name}", subject=name, path=path)

    def _is_excluded(self, facts: Facts) -> bool:
        cell = facts.get("diagnosis")
        if cell is None or self._indices is None:
            return False
        return self._indices.get(normalise(cell.text), 0) is None

    def _patient(self, name: str, facts: Facts, files: tuple[ScanFile, ...]) -> Patient | None:
        """One patient with all scans that are not excluded; None where there is none."""
        visits, bad_visits = self._visits(name) if files else (None, frozenset())
        scans = []
        sex = None
        for file in files:
            if file.session in bad_visits:
                continue
            with self.problems.noting(subject=name, session=file.session, path=file.path):
                known = facts
                if visits is not None and file.session:
                    if file.session not in visits:
                        raise Defect(
                            Problem.NO_ROW,
                            f"{file.path}: no {file.session} in {name}_sessions.tsv",
                        )
                    known = facts | visits[file.session]
                about = self._about(f"{name} {file.session}".strip(), known)
                if about is None:
                    self.without_label += 1
                    continue
                path = self._first_usable(name, file)
                if path is not None:
                    scans.append(
                        Scan(
                            file.session,
                            path,
                            about.label,
                            about.age,
                            about.measures,
                            about.clinical,
                        )
                    )
                    sex = about.sex
        ages = [scan.age for scan in scans if scan.age is not None]
        in_time = len(ages) == len(scans)
        scans.sort(key=lambda s: (s.age if in_time and s.age else 0.0, _natural(s.session)))
        return Patient(name, sex, tuple(scans)) if scans else None

    def _about(self, visit: str, known: Facts) -> _About | None:
        """What the tables say about a scan; None where ``[labels]`` excludes it."""
        self._check_columns(known, visit)
        label = UNLABELLED if self._indices is None else self._label(known["diagnosis"], visit)
        if label is None:
            return None
        age = read_age(known["age"], visit) if "age" in known else None
        sex = read_sex(known["sex"], visit) if "sex" in known else None
        measures = tuple(
            (measure, number)
            for measure in self._labels.columns.measures
            if (number := read_number(known[measure], measure, visit)) is not None
        )
        clinical = tuple(
            (variable, known[CLINICAL + variable].text)
            for variable in self._labels.columns.clinical_columns
            if CLINICAL + variable in known
        )
        return _About(label, age, sex, measures, clinical)

    def _first_usable(self, name: str, file: ScanFile) -> Path | None:
        """The best image of a session that is a T1w volume; the worse ones are not looked at."""
        for path in file.paths:
            with self.problems.noting(subject=name, session=file.session, path=path):
                check_header(path)
                check_modality(self.root, path)
                return path
        return None

    def _visits(self, name: str) -> tuple[dict[str, Facts] | None, frozenset[str]]:
        """The rows of a subject's sessions table, if there is one, and the sessions of bad rows."""
        path = self.root / name / f"{name}_sessions.tsv"
        if not path.exists():
            return None, frozenset()
        visits, bad = self._table(path).facts("session_id", "ses-", self._labels.columns)
        for row in bad:
            self.problems.add(row.kind, row.case, subject=name, session=row.name, path=path)
        return visits, frozenset(row.name for row in bad)

    def _check_columns(self, facts: Facts, visit: str) -> None:
        """A diagnosis is needed, and every column that the site's configuration names."""
        columns = self._labels.columns
        for meaning, usual in USUAL_COLUMNS.items():
            named = getattr(columns, meaning)
            needed = meaning == "diagnosis" and self._indices is not None
            if meaning not in facts and (named is not None or needed):
                wanted = named or " or ".join(usual)
                self._lacks(wanted, visit)
        for measure, column in columns.measures.items():
            if measure not in facts:
                self._lacks(column, visit)
        for variable, column in columns.clinical.items():
            if CLINICAL + variable not in facts:
                self._lacks(column, visit)

    def _lacks(self, column: str, visit: str) -> None:
        raise Defect(Problem.MISSING_COLUMN, f"{self._participants}: no {column} for {visit}")

    def _label(self, cell: Cell, visit: str) -> int | None:
        key = normalise(cell.text)
        assert self._indices is not None
        if key not in self._indices:
            raise Defect(
                Problem.UNKNOWN_LABEL,
                f"{cell.table}: {visit} has {cell.text or MISSING!r}, "
                f"known are {', '.join(sorted(self._indices))}",
            )
        return self._indices[key]

    def _without_copies(self, patients: list[Patient]) -> tuple[Patient, ...]:
        """Nobody can know whose an image is that lies under several people: all copies go."""
        copies: set[Path] = set()
        for group in files_of_several_patients(patients, self._digest):
            together = " = ".join(str(path) for _, path in group)
            for subject, path in group:
                copies.add(path)
                self.problems.add(Problem.DUPLICATE_IMAGE, together, subject=subject, path=path)
        left = []
        for patient in patients:
            scans = tuple(scan for scan in patient.scans if scan.path not in copies)
            if scans:
                left.append(replace(patient, scans=scans))
        return tuple(left)


def _check_description(root: Path) -> None:
    path = root / "dataset_description.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        kind = content.get("DatasetType", "raw")
        if kind != "raw":
            raise ValueError(f"DatasetType is {kind!r}")
    except (OSError, ValueError) as error:
        raise SmrfedError(
            "SMR-E203",
            f"{root} is not a BIDS raw dataset",
            expected="a folder with dataset_description.json",
            found=error,
            remedy="set archive in site.toml to the top folder of the BIDS dataset",
        ) from None


def _natural(session: str) -> tuple[tuple[int, str], ...]:
    """Sorts ses-M6 before ses-M12."""
    parts = re.findall(r"\d+|\D+", session)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)
