"""Where the T1w images of a BIDS subject lie, and which one stands for a session."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from client.archive.problems import Defect, Problem, Problems

_SUFFIXES = ("_T1w.nii.gz", "_T1w.nii")


@dataclass(frozen=True)
class ScanFile:
    """The image that stands for a session; ``session`` is ``ses-YY``, or empty without sessions."""

    session: str
    path: Path


def subject_folders(root: Path) -> tuple[Path, ...]:
    """``sub-*`` directly below the archive, by name; derivatives and sourcedata are not looked at.

    Raises a Defect for a link that leaves the archive.
    """
    return tuple(_folders(root, root, "sub-"))


def scan_files(root: Path, subject: Path, problems: Problems) -> tuple[ScanFile, ...]:
    """One T1w image per session of a subject.

    Of several images in a session the choice is: without ``acq-`` before with, then fewest other
    entities, then the lowest ``run-`` (none counts as 0), then by name. Links that leave the
    archive and images named after somebody else are noted in ``problems``.
    """
    found: defaultdict[str, list[Path]] = defaultdict(list)
    with problems.noting():
        sessions = [("", subject)] + [(s.name, s) for s in _folders(root, subject, "ses-")]
        for session, folder in sessions:
            for path in _images(root, folder):
                with problems.noting():
                    _check_name(path, subject.name, session)
                    found[session].append(path)
    return tuple(
        ScanFile(session, min(paths, key=lambda path: _preference(path, subject.name, session)))
        for session, paths in sorted(found.items())
    )


def _folders(root: Path, folder: Path, prefix: str) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(prefix) and entry.is_dir():
            check_inside(root, entry)
            yield entry


def _images(root: Path, folder: Path) -> Iterator[Path]:
    anat = folder / "anat"
    if not anat.is_dir():
        return
    check_inside(root, anat)
    for entry in sorted(anat.iterdir()):
        # Hidden files: macOS leaves "._" beside every file.
        if entry.name.endswith(_SUFFIXES) and not entry.name.startswith("."):
            check_inside(root, entry)
            yield entry


def check_inside(root: Path, path: Path) -> None:
    """Raise a Defect for a link that leaves the archive; within it (git-annex) they are fine."""
    if not path.resolve().is_relative_to(root):
        raise Defect(Problem.OUTSIDE, f"{path} leads to {path.resolve()}")


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
