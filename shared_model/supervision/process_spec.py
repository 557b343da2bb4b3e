"""What is to be kept running, and where each process stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shared_model.supervision.restart import RestartPolicy

_NUMBERED = re.compile(r"\[(SMR-E\d{3})\] (.*)")

State = Literal["waiting", "running", "restarting", "given up", "stopped"]


def numbered_reason(log: str) -> str | None:
    """The last numbered error at the end of a log, in one line."""
    found = _NUMBERED.findall(log)
    return f"{found[-1][0]} {found[-1][1].strip()[:200]}" if found else None


@dataclass(frozen=True)
class ProcessSpec:
    """One process of a supervisor.

    Args:
        name: short, for people and file names.
        command: program and arguments; never a secret, every user of the machine can read them.
        log: file for its output; turns over.
        environment: all of its environment.
        restart: when it is started again.
        ready: whether it does its work; processes behind it in the list start after that.
        answers: whether it still does its work; asked beside it, may take long or hang itself.
        stuck: why it can never do its work again, or None; it is then killed at once. Asked several
            times a second.
        before_start: called before every start.
        silent_s: seconds without such an answer after which it has hung, and is killed.
        essential: without it the others are of no use: when it ends for good, all are ended.
        stop_grace_s: seconds between SIGTERM and SIGKILL.
        explain: a sentence about the end of its log, where it is a known condition.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str]
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    ready: Callable[[], bool] | None = None
    answers: Callable[[], bool] | None = None
    stuck: Callable[[], str | None] = lambda: None
    before_start: Callable[[], None] = lambda: None
    silent_s: float = 600.0
    essential: bool = True
    stop_grace_s: float = 10.0
    explain: Callable[[str], str | None] = numbered_reason


@dataclass(frozen=True)
class ProcessState:
    """Where a process stands, for people and for the state file."""

    name: str
    state: State
    pid: int | None = None
    since: str = ""
    starts: int = 0
    failures: int = 0
    exit_status: int | None = None
    detail: str = ""

    def line(self) -> str:
        """One short line."""
        process = "" if self.pid is None else f" (process {self.pid})"
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.name:<12} {self.state}{process}{detail}"


def ending(exit_status: int | None) -> str:
    """How a process ended, in words."""
    if exit_status is None:
        return "ended"
    return f"ended by signal {-exit_status}" if exit_status < 0 else f"exit status {exit_status}"
