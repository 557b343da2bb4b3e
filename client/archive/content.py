"""What is in the image files: digests, and the same file under two people."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

from client.archive.patients import Patient
from client.archive.problems import Defect, Problem


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes; remembered until its size or its time of change does.

    Raises a Defect (SMR-E212) when the file cannot be read.
    """
    state = _state(path)
    return _digest(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


def read_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes as they are now. Raises a Defect (SMR-E212)."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Defect(Problem.UNREADABLE_IMAGE, f"{path}: {error.strerror}") from None


def _state(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise Defect(Problem.UNREADABLE_IMAGE, f"{path}: {error.strerror}") from None


@lru_cache(maxsize=1 << 16)
def _digest(path: Path, _size: int, _mtime_ns: int, _ctime_ns: int, _inode: int) -> str:
    return read_sha256(path)


def files_of_several_patients(
    patients: Iterable[Patient], digest: Callable[[Path], str] = file_sha256
) -> list[tuple[tuple[str, Path], ...]]:
    """Groups of (patient, file) with the same bytes under more than one patient.

    Only files of equal size are read: for gzipped images that is hardly any. A copy that was
    compressed again is found by its voxels, when the scans are prepared. ``digest`` may remember
    files from earlier. Raises SMR-E212 for a file that cannot be read.
    """
    try:
        return _same_content(patients, digest)
    except Defect as defect:
        raise defect.error() from None


def _same_content(
    patients: Iterable[Patient], digest: Callable[[Path], str]
) -> list[tuple[tuple[str, Path], ...]]:
    by_size: defaultdict[int, list[tuple[str, Path]]] = defaultdict(list)
    for patient in patients:
        for scan in patient.scans:
            by_size[_state(scan.path).st_size].append((patient.id, scan.path))
    groups: list[tuple[tuple[str, Path], ...]] = []
    for files in by_size.values():
        if len({patient for patient, _ in files}) < 2:
            continue
        by_content: defaultdict[str, list[tuple[str, Path]]] = defaultdict(list)
        for patient_id, path in files:
            by_content[digest(path)].append((patient_id, path))
        groups += [
            tuple(same) for same in by_content.values() if len({patient for patient, _ in same}) > 1
        ]
    return groups
