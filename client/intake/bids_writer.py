"""The private BIDS dataset that an intake leaves behind; it appears whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.agent.durable import make_private_folder, write_durably
from client.archive.labels import MISSING
from shared_model.errors import SmrfedError

_GENERATOR = "smrfed intake"
_UNKNOWN_COURSE = "uMCI"
#: From this age on, people are so few that the number itself tells who somebody is.
_OLDEST_TOLD = 89


@dataclass(frozen=True)
class SessionRecord:
    """One scan as it is written; ``nifti`` and ``sidecar`` are files of the conversion store.

    ``months`` are whole months since the patient's first scan: no date is written.
    """

    session: str
    nifti: Path
    sidecar: Path
    age: float | None
    diagnosis: str
    numbers: Mapping[str, float]
    months: int | None = None


@dataclass(frozen=True)
class FollowUpRecord:
    """A visit without a scan, ``months`` after the first one."""

    session: str
    months: int
    age: float | None
    diagnosis: str
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class SubjectRecord:
    """One patient, sessions in the order of time; at least one.

    ``undated`` where nobody knows when the diagnosis was made: it is the same in every session.
    """

    subject: str
    sex: str | None
    sessions: tuple[SessionRecord, ...]
    follow_ups: tuple[FollowUpRecord, ...] = ()
    undated: bool = False


def image_name(subject: str, session: str) -> str:
    """Where a scan lies, relative to the dataset."""
    return f"{subject}/{session}/anat/{subject}_{session}_T1w.nii.gz"


def write_dataset(
    target: Path, subjects: Sequence[SubjectRecord], columns: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """Write the dataset beside ``target``, then put it in its place.

    The scans are links to the conversion store's files where the file system has them, so that
    nothing is copied and a scan keeps its identity when sessions are renumbered.

    Args:
        target: the dataset's folder; replaced if an intake made it.
        subjects: by pseudonym.
        columns: of numbers, in the tables' order.

    Returns size and time of change (ns) of every file, by path relative to ``target``.

    Raises SMR-E264 when something else lies at ``target``.
    """
    check_ours(target)
    new, old = _beside(target, "new"), _beside(target, "old")
    clean_up(target)
    make_private_folder(new)
    description = {
        "Name": "smrfed intake",
        "BIDSVersion": "1.10.0",
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": _GENERATOR}],
    }
    write_durably(new / "dataset_description.json", json.dumps(description, indent=1).encode())
    header = ["participant_id", "age", "sex", "diagnosis", *columns]
    # One diagnosis without a date, copied to every session, would look like a stable course.
    undated = any(subject.undated for subject in subjects)
    header += ["progression"] if undated else []
    rows = []
    for subject in subjects:
        folder = new / subject.subject
        first = subject.sessions[0]
        row = [subject.subject, _age(first.age), subject.sex or MISSING, *_rest(first, columns)]
        if undated:
            row.append(_UNKNOWN_COURSE if subject.undated else MISSING)
        rows.append(row)
        every: list[SessionRecord | FollowUpRecord] = [*subject.sessions, *subject.follow_ups]
        visits = [
            [
                visit.session,
                MISSING if visit.months is None else str(visit.months),
                _age(visit.age),
                *_rest(visit, columns),
            ]
            for visit in every
        ]
        table = _table(["session_id", "months", "age", "diagnosis", *columns], visits)
        write_durably(folder / f"{subject.subject}_sessions.tsv", table)
        for session in subject.sessions:
            image = new / image_name(subject.subject, session.session)
            make_private_folder(image.parent)
            _link(session.nifti, image)
            _link(session.sidecar, image.with_name(image.name.replace(".nii.gz", ".json")))
    write_durably(new / "participants.tsv", _table(header, rows))
    if target.exists():
        target.rename(old)
    # Between these two steps there is no dataset; the next intake makes it from what it kept.
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return files_of(target)


def check_ours(target: Path) -> None:
    """Raise SMR-E264 when a folder lies at ``target`` that no intake made."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    try:
        content = json.loads((target / "dataset_description.json").read_text("utf-8"))
        ours = content["GeneratedBy"][0]["Name"] == _GENERATOR
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        ours = False
    if not ours:
        raise SmrfedError(
            "SMR-E264",
            f"the folder {target} is not free for the converted scans",
            expected="no such folder, or one that an intake made",
            found="a folder with other content",
            remedy="choose another state_dir in site.toml, or move the folder away",
        )


def cannot_write(folder: Path, error: OSError) -> SmrfedError:
    """SMR-E264 for a disk that is full, or a folder that may not be written."""
    return SmrfedError(
        "SMR-E264",
        f"cannot write the converted scans below {folder}",
        expected="a folder that the account of smrfed may write, with 50 MB free per scan",
        found=error.strerror or type(error).__name__,
        remedy="free space or correct the permissions of state_dir, then start again: what is "
        "done is kept",
    )


def clean_up(target: Path) -> None:
    """Remove what an intake that was stopped left beside the dataset."""
    for name in ("new", "old"):
        shutil.rmtree(_beside(target, name), ignore_errors=True)


def files_of(target: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change (ns) of every file below ``target``, by relative path."""
    out = {}
    for folder, _, names in os.walk(target):
        for name in names:
            path = Path(folder, name)
            state = path.stat()
            out[str(path.relative_to(target))] = (state.st_size, state.st_mtime_ns)
    return out


def age_text(age: float | None) -> str | None:
    """Whole years, and ``89+`` from 89 on; None for an unknown age."""
    if age is None:
        return None
    return f"{_OLDEST_TOLD}+" if age >= _OLDEST_TOLD else str(int(age))


def _beside(target: Path, name: str) -> Path:
    return target.with_name(f".{target.name}.{name}")


def _age(age: float | None) -> str:
    return age_text(age) or MISSING


def _rest(session: SessionRecord | FollowUpRecord, columns: Sequence[str]) -> list[str]:
    numbers = [
        f"{session.numbers[column]:g}" if column in session.numbers else MISSING
        for column in columns
    ]
    # A cell must not break the table.
    return [re.sub(r"\s+", " ", session.diagnosis).strip() or MISSING, *numbers]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    return "".join("\t".join(row) + "\n" for row in [header, *rows]).encode()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        write_durably(target, source.read_bytes())
