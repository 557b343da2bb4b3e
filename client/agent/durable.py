"""Files that are whole or absent, whatever moment the machine stops at."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

TEMPORARY = ".part"


def write_durably(path: Path, *parts: bytes) -> None:
    """Write ``parts`` one after the other to ``path`` (mode 0600), replacing it in one step.

    When this returns, the file survives a power failure; before that, a reader sees the old file or
    none. Missing folders are made (mode 0700). A temporary file that a crash left behind ends in
    :data:`TEMPORARY`.
    """
    make_private_folder(path.parent)
    descriptor, temporary = tempfile.mkstemp(
        prefix=f".{path.name}-", suffix=TEMPORARY, dir=path.parent
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_if_changed(path: Path, content: bytes) -> None:
    """:func:`write_durably`, unless the file holds exactly that already. Raises OSError."""
    try:
        if path.stat().st_size == len(content) and path.read_bytes() == content:
            return
    except OSError:
        pass
    write_durably(path, content)


def sweep(folder: Path, older_than_s: float = 3600.0) -> None:
    """Remove temporary files that a crash left below ``folder``; young ones may be in use."""
    for left in folder.rglob(f".*{TEMPORARY}"):
        try:
            if time.time() - left.stat().st_mtime > older_than_s:
                left.unlink(missing_ok=True)
        except OSError:
            continue


def make_private_folder(folder: Path) -> None:
    """Make ``folder`` and what is missing above it, readable by the owner only (mode 0700)."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(mode=0o700, exist_ok=True)
        sync_folder(new.parent)


def sync_folder(folder: Path) -> None:
    """Wait until what was made, renamed or removed in ``folder`` survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
