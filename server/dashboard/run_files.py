"""A run directory as the dashboard reads it: facts only, never an array, never half a file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.checkpoints.run_directory import RunDirectory
from server.checkpoints.state import StateFile
from server.enrolment.additions import current_plan
from server.rounds.records import RoundRecord
from server.watchdog.wanted import Wanted, read_wanted
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan

_TAIL_BYTES = 96 << 10
_EVENTS = "events.jsonl"

#: Names, sizes and times of the files that a run's facts come from.
Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class RunFiles:
    """What lay in a run directory at one moment.

    Attributes:
        members: the plan with the hospitals that were added later: for who takes part, no digest.
        wanted: what the operator wants of the run, and what the watchdog made of it.
        history: completed rounds of training.
        stopped: the round that missed its quorum, while that is the last word.
        finalised: which sites have the final model.
        events: the newest events, oldest first; fields as they were written.
        driven: whether a process drives the run; None where this machine does not tell.
        problem: why the newest checkpoint is not the one shown.
    """

    name: str
    path: Path
    plan: FederationPlan
    members: FederationPlan
    run_id: str
    history: tuple[RoundRecord, ...]
    global_sha256: str | None
    stopped: RoundRecord | None
    finalised: RoundRecord | None
    events: tuple[Mapping[str, Any], ...]
    driven: bool | None
    wanted: Wanted | None = None
    problem: str | None = None

    @property
    def weights(self) -> dict[str, int]:
        """Public weight of every hospital."""
        return self.members.weights

    @property
    def completed(self) -> int:
        """Rounds completed."""
        return self.history[-1].round if self.history else 0


def signature(path: Path) -> Signature:
    """Changes whenever something that :func:`read_run` reads has changed."""
    names = ["run.json", "plan.json", "latest", "stopped.json", "finalised.json", "additions"]
    names += ["wanted.json", _EVENTS]
    names += [f"rounds/{folder.name}/state.json" for folder in _rounds(path)[:1]]
    found = []
    for name in names:
        try:
            about = (path / name).stat()
        except OSError:
            continue
        found.append((name, about.st_ino, about.st_size, about.st_mtime_ns))
    return tuple(found)


def read_run(path: Path) -> RunFiles:
    """Read one run; raises SMR-E530 and E535 as :meth:`RunDirectory.open`.

    A checkpoint that is damaged, or vanishes while it is read, is passed over for the one before.
    """
    run = RunDirectory.open(path)
    state, problem = _newest_state(run)
    return RunFiles(
        name=path.name,
        path=path,
        plan=run.plan,
        members=_members(run),
        run_id=run.run_id,
        history=() if state is None else state.history,
        global_sha256=None if state is None else state.global_sha256,
        stopped=run.stopped(),
        finalised=run.finalised(),
        events=tail_of_events(path),
        driven=is_driven(path),
        wanted=_wanted(path),
        problem=problem,
    )


def tail_of_events(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The newest whole lines of ``events.jsonl``; a line that is no event is left out."""
    found = []
    for line in tail_lines(path / _EVENTS, _TAIL_BYTES):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("kind"), str):
            found.append(event)
    return tuple(found)


def tail_lines(path: Path, most_bytes: int) -> list[str]:
    """The last whole lines of a file, within so many bytes; none where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - most_bytes))
            data = file.read(most_bytes)
    except OSError:
        return []
    data = data[: data.rfind(b"\n") + 1]
    lines = data.decode("utf-8", errors="replace").split("\n")[:-1]
    return lines[1:] if size > most_bytes else lines


def is_driven(path: Path) -> bool | None:
    """Whether a process holds the run's lock; looked up, never taken, so nobody is kept out."""
    try:
        about = (path / "lock").stat()
        holder = (path / "lock").read_text("ascii", errors="replace").strip()
    except OSError:
        return False
    try:
        locks = Path("/proc/locks").read_text("ascii", errors="replace")
    except OSError:
        return None
    device = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}"
    for fields in (line.split() for line in locks.splitlines()):
        if fields[1:2] != ["FLOCK"] or len(fields) < 6:
            continue
        place, _, inode = fields[5].rpartition(":")
        # Some file systems show another device number here than stat does.
        if inode == str(about.st_ino) and (place == device or fields[4] == holder):
            return True
    return False


def _members(run: RunDirectory) -> FederationPlan:
    try:
        return current_plan(run)
    except SmrfedError:
        return run.plan


def _wanted(path: Path) -> Wanted | None:
    try:
        return read_wanted(path)
    except SmrfedError:
        return None


def _newest_state(run: RunDirectory) -> tuple[StateFile | None, str | None]:
    problem = None
    for folder in _rounds(run.path):
        try:
            state = StateFile.decode((folder / "state.json").read_bytes())
            if (state.run_id, state.plan_digest) != (run.run_id, run.plan.digest):
                raise ValueError("it belongs to another run")
        except (OSError, ValueError) as error:
            problem = f"the checkpoint of round {int(folder.name)} cannot be read: {error}"[:300]
            continue
        return state, problem
    return None, problem


def _rounds(path: Path) -> list[Path]:
    try:
        found = [folder for folder in (path / "rounds").iterdir() if folder.name.isdigit()]
    except OSError:
        return []
    return sorted(found, key=lambda folder: int(folder.name), reverse=True)


def run_folders(runs: Path) -> list[Path]:
    """Folders below ``runs`` that hold a run, by name; links are not followed."""
    try:
        with os.scandir(runs) as entries:
            found = [
                Path(e.path)
                for e in entries
                if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")
            ]
    except OSError:
        return []
    return sorted(folder for folder in found if (folder / "run.json").exists())


def why_unreadable(error: Exception) -> str:
    """One sentence about a run that cannot be read."""
    if isinstance(error, SmrfedError):
        return f"{error.code} {error.what}"
    return f"{type(error).__name__}: {error}"[:300]
