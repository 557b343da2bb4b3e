"""Who prepares scans and who removes them do not meet."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.agent.durable import make_private_folder
from client.prepared.no_room import no_room
from shared_model.errors import SmrfedError


@contextmanager
def preparing(state_dir: Path) -> Iterator[None]:
    """Hold off removal while scans are prepared; any number of preparations at once.

    Waits while something is removed, which takes seconds. The kernel frees the lock however the
    process ends. Raises SMR-E241 where the folder cannot be written.
    """
    lock = _open(state_dir)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


@contextmanager
def nobody_prepares(state_dir: Path) -> Iterator[None]:
    """Hold off preparations; raises SMR-E249 while one runs, and SMR-E241."""
    lock = _open(state_dir)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SmrfedError(
                "SMR-E249",
                f"scans are being prepared below {state_dir}: nothing is removed",
                expected="no other smrfed-site prepare at the same time",
                found="one that runs",
                remedy="wait until it has ended, then run smrfed-site prepare --prune again",
            ) from None
        yield
    finally:
        os.close(lock)


def _open(state_dir: Path) -> int:
    try:
        make_private_folder(state_dir)
        path = state_dir / "prepare.lock"
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise no_room(state_dir, error) from None
