"""Where the T1w images of a BIDS subject lie, and which one stands for a session."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from client.archive.problems import Defect, Problem, Problems

_SUFFIXES = ("_T1w.nii.gz", "_T1w.nii")


@dataclass(frozen=True)
class ScanFile:
    """The images of one session, best first; ``session`` is ``ses-YY``, or empty without sessions.

    The first stands for the session; the next one takes its place when it cannot be used.
    """

    session: str
    paths: tuple[Path, ...]

    @property
    def path(self) -> Path:
        """The image that stands for the session."""
        return self.paths[0]


def subject_folders(root: Path, problems: Problems) -> tuple[Path, ...]:
    """``sub-*`` directly below the archive, by name; derivatives and sourcedata are not looked at.

    A link that leaves the archive is noted in ``problems``, as is a folder that cannot be listed.
    """
    folders: list[Path] = []
    with problems.noting(path=root):
        folders = _folders(root, root, "sub-", problems)
    return tuple(folders)


def scan_files(root: Path, subject: Path, problems: Problems) -> tuple[ScanFile, ...]:
    """The T1w images of each session of a subject.

    Of several images in a session the choice is: without ``acq-`` before with, then fewest other
    entities, then the lowest ``run-`` (none counts as 0), then by name. Links that leave the
    archive and images named after somebody else are noted in ``problems``.
    """
    found: defaultdict[str, list[Path]] = defaultdict(list)
    name = subject.name
    with problems.noting(subject=name, path=subject):
        sessions = [("", subject)]
        sessions += [(s.name, s) for s in _folders(root, subject, "ses-", problems, name)]
        for session, folder in sessions:
            with problems.noting(subject=name, session=session, path=folder):
                for path in _images(root, folder):
                    with problems.noting(subject=name, session=session, path=path):
                        check_inside(root, path)
                        _check_name(path, name, session)
                        found[session].append(path)
    return tuple(
        ScanFile(session, tuple(sorted(paths, key=lambda p: _preference(p, name, session))))
        for session, paths in sorted(found.items())
    )


def _folders(
    root: Path, folder: Path, prefix: str, problems: Problems, subject: str = ""
) -> list[Path]:
    out = []
    for entry in _entries(folder):
        if not entry.name.startswith(prefix):
            continue
        session = entry.name if subject else ""
        with problems.noting(subject=subject or entry.name, session=session, path=entry):
            if _is_folder(entry):
                check_inside(root, entry)
                out.append(entry)
    return out


def _images(root: Path, folder: Path) -> list[Path]:
    anat = folder / "anat"
    if not _is_folder(anat):
        return []
    check_inside(root, anat)
    # Hidden files: macOS leaves "._" beside every file.
    return [
        entry
        for entry in _entries(anat)
        if entry.name.endswith(_SUFFIXES) and not entry.name.startswith(".")
    ]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise Defect(Problem.UNREADABLE_FOLDER, f"{path}: {error.strerror}") from None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise Defect(Problem.UNREADABLE_FOLDER, f"{folder}: {error.strerror}") from None


def check_inside(root: Path, path: Path) -> None:
    """Raise a Defect for a link that leaves the archive; within it (git-annex) they are fine."""
    try:
        target = path.resolve()
    except (OSError, RuntimeError):
        raise Defect(Problem.OUTSIDE, f"{path} leads round in a circle") from None
    if not target.is_relative_to(root):
        raise Defect(Problem.OUTSIDE, f"{path} leads to {target}")


def _entities(path: Path, subject: str, session: str) -> list[str]:
    """What stands between the subject (and session) and ``T1w`` in a name."""
    prefix = f"{subject}_{session}_" if session else f"{subject}_"
    stem = path.name.removesuffix(".gz").removesuffix(".nii").removesuffix("T1w")
    return stem.removeprefix(prefix).split("_")[:-1]


def _check_name(path: Path, subject: str, session: str) -> None:
    # Labels are compared as they are: hyphens and underscores in them occur.
    prefix = f"{subject}_{session}_" if session else f"{subject}_"
    other_session = not session and path.name.startswith(f"{subject}_ses-")
    if not path.name.startswith(prefix) or other_session:
        raise Defect(Problem.MISFILED, str(path))


def _preference(path: Path, subject: str, session: str) -> tuple[bool, int, int, str]:
    entities = _entities(path, subject, session)
    runs = [int(m[1]) for e in entities if (m := re.fullmatch(r"run-(\d+)", e))]
    others = len(entities) - len(runs)
    with_acq = any(entity.startswith("acq-") for entity in entities)
    return with_acq, others, runs[0] if runs else 0, path.name
