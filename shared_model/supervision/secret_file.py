"""A secret that two processes of one machine share: made once, for its owner alone."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

_BYTES = 48


def ensure_secret(path: Path) -> Path:
    """Write 48 random bytes (mode 0600) unless the file is there; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
    return path
