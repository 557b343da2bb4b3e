"""The error of a folder that prepared scans cannot be written to."""

from __future__ import annotations

from pathlib import Path

from shared_model.errors import SmrfedError


def no_room(folder: Path, error: OSError) -> SmrfedError:
    """SMR-E241 for a folder that cannot be written."""
    return SmrfedError(
        "SMR-E241",
        f"cannot keep prepared scans below {folder}",
        expected="a writable folder with 20 MB free per scan",
        found=error.strerror or error,
        remedy="free space or correct the folder's permissions, then start again: finished scans "
        "are kept",
    )
