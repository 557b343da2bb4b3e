"""Read a hospital's archive in BIDS, and find everything that is wrong with it before training."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

from client.archive.content import files_of_several_patients
from client.archive.labels import MISSING, USUAL_COLUMNS, LabelMapping, normalise
from client.archive.nifti import check_header
from client.archive.patients import Patient, Scan
from client.archive.problems import Defect, Problem, Problems
from client.archive.scan_files import ScanFile, check_inside, scan_files, subject_folders
from client.archive.tables import Cell, Facts, Table, read_age, read_sex, read_table
from shared_model.errors import SmrfedError

_log = logging.getLogger(__name__)


def read_bids_archive(
    root: Path, labels: LabelMapping, plan_labels: tuple[str, ...]
) -> tuple[Patient, ...]:
    """All patients of a BIDS raw dataset with a T1w image and a diagnosis, by identifier.

    A subject with several sessions is one patient; its scans are in the order of age, then of the
    session's name. Voxels are not read: what only they can tell is told when scans are prepared.

    Args:
        root: folder with dataset_description.json and participants.tsv.
        labels: the hospital's words for the plan's labels, and how its tables are read.
        plan_labels: class names in logit order.

    Raises:
        SmrfedError: SMR-E203 to E220, naming file, value and remedy; all cases of a kind together.
    """
    indices = labels.indices(plan_labels)
    root = root.resolve()
    _check_description(root)
    reader = _Reader(root, labels, indices)
    patients = reader.read()
    if not patients:
        raise SmrfedError(
            "SMR-E216",
            f"the archive {root} has no scan to train on",
            expected="sub-XX[/ses-YY]/anat/*_T1w.nii.gz of people with a mapped diagnosis",
            found=f"{reader.rows} people in participants.tsv, {reader.images} T1w images, "
            f"{reader.excluded} of them excluded by [labels]",
            remedy="check archive and [labels] in site.toml; see docs/archive.md",
        )
    present = {scan.label for patient in patients for scan in patient.scans}
    if len(present) < 2:
        raise SmrfedError(
            "SMR-E217",
            f"every scan of the archive {root} has the same label",
            expected=f"at least two of {', '.join(plan_labels)}",
            found=plan_labels[present.pop()],
            remedy="check [labels] in site.toml; a hospital with one class cannot take part",
        )
    return patients


class _Reader:
    """One pass over an archive; what is wrong is collected and raised together."""

    def __init__(self, root: Path, labels: LabelMapping, indices: dict[str, int | None]) -> None:
        self._root = root
        self._labels = labels
        self._indices = indices
        self._problems = Problems()
        self.rows = 0
        self.images = 0
        self.excluded = 0

    def read(self) -> tuple[Patient, ...]:
        """The patients; raises when anything is wrong."""
        people = self._participants()
        self.rows = len(people)
        files: dict[str, tuple[ScanFile, ...]] = {}
        with self._problems.noting():
            for folder in subject_folders(self._root):
                files[folder.name] = scan_files(self._root, folder, self._problems)
        self.images = sum(map(len, files.values()))
        self._compare(people, files)
        self._problems.raise_any()
        patients = []
        for name in sorted(people):
            with self._problems.noting():
                patient = self._patient(name, people[name], files.get(name, ()))
                if patient is not None:
                    patients.append(patient)
        self._problems.raise_any()
        for group in files_of_several_patients(patients):
            self._problems.add(Problem.DUPLICATE_IMAGE, " = ".join(str(p) for _, p in group))
        self._problems.raise_any()
        return tuple(patients)

    def _participants(self) -> dict[str, Facts]:
        try:
            table = self._table(self._root / "participants.tsv")
            return table.facts("participant_id", "sub-", self._labels.columns)
        except Defect as defect:
            raise defect.error() from None

    def _table(self, path: Path) -> Table:
        check_inside(self._root, path)
        return read_table(path)

    def _compare(self, people: dict[str, Facts], files: dict[str, tuple[ScanFile, ...]]) -> None:
        for name, found in files.items():
            if found and name not in people:
                self._problems.add(
                    Problem.NO_ROW, f"{found[0].path}: no {name} in participants.tsv"
                )
        without = [
            name
            for name, facts in people.items()
            if not files.get(name) and not self._is_excluded(facts)
        ]
        if without and self._labels.missing_images == "skip":
            _log.warning("%d people without an image are left out", len(without))
            return
        for name in without:
            self._problems.add(Problem.NO_IMAGE, f"{self._root / 'participants.tsv'}: {name}")

    def _is_excluded(self, facts: Facts) -> bool:
        cell = facts.get("diagnosis")
        return cell is not None and self._indices.get(normalise(cell.text), 0) is None

    def _patient(self, name: str, facts: Facts, files: tuple[ScanFile, ...]) -> Patient | None:
        """One patient with all scans that are not excluded; None where there is none."""
        visits = self._visits(name)
        scans = []
        sex = None
        for file in files:
            with self._problems.noting():
                known = facts
                if visits is not None and file.session:
                    if file.session not in visits:
                        raise Defect(
                            Problem.NO_ROW,
                            f"{file.path}: no {file.session} in {name}_sessions.tsv",
                        )
                    known = facts | visits[file.session]
                visit = f"{name} {file.session}".strip()
                self._check_columns(known, visit)
                label = self._label(known["diagnosis"], visit)
                if label is None:
                    self.excluded += 1
                    continue
                age = read_age(known["age"], visit) if "age" in known else None
                sex = read_sex(known["sex"], visit) if "sex" in known else None
                check_header(file.path)
                scans.append(Scan(file.session, file.path, label, age))
        ages = [scan.age for scan in scans if scan.age is not None]
        in_time = len(ages) == len(scans)
        scans.sort(key=lambda s: (s.age if in_time and s.age else 0.0, _natural(s.session)))
        return Patient(name, sex, tuple(scans)) if scans else None

    def _visits(self, name: str) -> dict[str, Facts] | None:
        path = self._root / name / f"{name}_sessions.tsv"
        if not path.exists():
            return None
        return self._table(path).facts("session_id", "ses-", self._labels.columns)

    def _check_columns(self, facts: Facts, visit: str) -> None:
        """A diagnosis is needed, and every column that the site's configuration names."""
        for meaning, usual in USUAL_COLUMNS.items():
            named = getattr(self._labels.columns, meaning)
            if meaning not in facts and (named is not None or meaning == "diagnosis"):
                table = self._root / "participants.tsv"
                wanted = named or " or ".join(usual)
                raise Defect(Problem.MISSING_COLUMN, f"{table}: no {wanted} for {visit}")

    def _label(self, cell: Cell, visit: str) -> int | None:
        key = normalise(cell.text)
        if key not in self._indices:
            raise Defect(
                Problem.UNKNOWN_LABEL,
                f"{cell.table}: {visit} has {cell.text or MISSING!r}, "
                f"known are {', '.join(sorted(self._indices))}",
            )
        return self._indices[key]


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
