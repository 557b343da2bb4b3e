"""Whether a run has got anywhere: what lies in its directory, without reading a model."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from server.checkpoints.run_directory import RunDirectory


def progress_of(run_dir: Path) -> str:
    """A word that changes when a round or a release is saved, or a site was told the result."""
    try:
        newest = (run_dir / "latest").read_text().strip()
    except OSError:
        newest = "-"
    releases = sum(1 for _ in (run_dir / "releases").glob("*.json"))
    return f"{newest}/{releases}/{len(_told(run_dir))}"


def untold(run: RunDirectory) -> tuple[str, ...]:
    """Sites that took part at the end and do not know the result; all of them before the end."""
    finalised = run.finalised()
    if finalised is None:
        return tuple(run.plan.weights)
    return tuple(sorted(finalised.set_aside))


def driven_by(run_dir: Path) -> str | None:
    """The process that drives a run directory at this moment, as its lock tells; none: nobody.

    Looking takes the lock for an instant; a driver that starts just then tries again by itself.
    """
    try:
        descriptor = os.open(run_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(descriptor)
    return None


def _told(run_dir: Path) -> tuple[str, ...]:
    try:
        finalised = RunDirectory.open(run_dir).finalised()
    except Exception:
        return ()
    return () if finalised is None else finalised.accepted
