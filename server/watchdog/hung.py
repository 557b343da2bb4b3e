"""Drivers that hang without ending: known by the time of their lock, and ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from server.watchdog.progress import driven_by

_PROC = Path("/proc")


class SignsOfLife:
    """For how long something has not changed, by a clock that nobody sets.

    Args:
        clock: seconds, monotonic; after a restart of the watchdog they count anew.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[tuple[Path, str], tuple[object, float]] = {}

    def silent_s(self, run_dir: Path) -> float:
        """Seconds for which nobody has set the lock's time (:meth:`RunDirectory.alive`)."""
        try:
            told = (run_dir / "lock").stat().st_mtime_ns
        except OSError:
            return 0.0
        return self._since(run_dir, "lock", told)

    def unchanged_s(self, run_dir: Path, status: object) -> float:
        """Seconds for which the run has stood like this."""
        return self._since(run_dir, "status", status)

    def _since(self, run_dir: Path, what: str, value: object) -> float:
        before = self._seen.get((run_dir, what))
        if before is None or before[0] != value:
            self._seen[run_dir, what] = value, self._clock()
            return 0.0
        return self._clock() - before[1]


def end_driver(run_dir: Path) -> int | None:
    """Kill the process that holds the run's lock; its number, or None where that is not certain.

    It may be stopped or deadlocked, so nothing gentler would reach it; what it saved is durable.
    """
    holder = driven_by(run_dir)
    if holder is None or not holder.isdigit() or int(holder) == os.getpid():
        return None
    if not _holds(int(holder), run_dir / "lock"):
        return None
    try:
        os.kill(int(holder), signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return None
    return int(holder)


def _holds(process: int, lock: Path) -> bool:
    """Whether this process has the lock's file open: its number may have come from elsewhere."""
    try:
        entries = list((_PROC / str(process) / "fd").iterdir())
    except OSError:
        return False
    return any(_same(entry, lock) for entry in entries)


def _same(entry: Path, lock: Path) -> bool:
    try:
        return entry.samefile(lock)
    except OSError:  # closed meanwhile
        return False
