"""What the operator wants of a run, and what became of it so far: ``RUN/wanted.json``.

On disk before anything follows from it, so that the watchdog may be killed and started anew at any
moment. Whoever reads it to change it, or starts the run, holds ``RUN/wanted.lock``.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.checkpoints.durable import replace_durably
from shared_model.errors import SmrfedError

_FILE, _LOCK = "wanted.json", "wanted.lock"

State = Literal["new", "running", "waiting", "given_up", "finished", "stopped"]


class Wanted(BaseModel):
    """Whether a run is to be driven, and how that went; times are seconds since 1970.

    ``state``: ``new`` was never started; ``waiting`` will be started at ``not_before``;
    ``given_up`` needs a person, ``problem`` says why; ``stopped`` by the operator.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    wanted: bool = True
    state: State = "new"
    flower_run_id: int | None = Field(default=None, description="of the newest start")
    judged: int | None = Field(default=None, description="Flower run whose end was looked at last")
    attempts: int = Field(default=0, ge=0, description="failures in a row without progress")
    progress: str = Field(default="", description="what was on disk at the last start")
    stuck_since: float = Field(default=0.0, description="when the run got on last; 0: it goes well")
    not_before: float = 0.0
    problem: str | None = Field(default=None, description="number and reason of the last failure")

    @property
    def open(self) -> bool:
        """Whether the watchdog has anything to do here."""
        return self.wanted and self.state not in ("given_up", "finished", "stopped")


def read_wanted(run_dir: Path) -> Wanted | None:
    """What is wanted of a run, for whoever only shows it; none: nobody asked for it yet.

    Raises SMR-E528 for a file that is damaged.
    """
    path = run_dir / _FILE
    try:
        return Wanted.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise SmrfedError(
            "SMR-E528",
            f"cannot read {path}",
            expected="what smrfed-coordinator run wrote",
            found=f"{type(error).__name__}: {error}"[:300],
            remedy="remove the file and say smrfed-coordinator run RUN_DIR again: it holds no "
            "result, only that the run is wanted",
        ) from None


def in_words(wanted: Wanted) -> str:
    """State and, where there is one, the reason."""
    words = {
        "new": "yes, not started yet",
        "running": "yes, running",
        "waiting": "yes, started again after a pause",
        "given_up": "yes, but GIVEN UP: say smrfed-coordinator run again when it is settled",
        "finished": "finished",
        "stopped": "no, stopped",
    }[wanted.state]
    return words if wanted.problem is None else f"{words}; {wanted.problem}"


class WantedFile:
    """The file in the hands of one process; made by :func:`held`."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir

    def read(self) -> Wanted | None:
        """As :func:`read_wanted`."""
        return read_wanted(self._run_dir)

    def write(self, wanted: Wanted) -> None:
        """Replace it; raises SMR-E534."""
        path = self._run_dir / _FILE
        try:
            replace_durably(path, wanted.model_dump_json(indent=1).encode())
        except OSError as error:
            raise SmrfedError(
                "SMR-E534",
                f"cannot write {path}",
                found=error,
                remedy="check free space and permissions; the run itself is not affected",
            ) from None


@contextmanager
def held(run_dir: Path) -> Iterator[WantedFile]:
    """The file, for one process at a time; others wait. The kernel drops the lock with a process.

    Raises SMR-E534 when the lock file cannot be made.
    """
    path = run_dir / _LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SmrfedError(
            "SMR-E534", f"cannot write {path}", found=error, remedy="check the permissions"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield WantedFile(run_dir)
    finally:
        os.close(descriptor)
