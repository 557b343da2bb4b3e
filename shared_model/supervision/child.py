"""One process in a process group of its own, so that whatever it starts ends with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from shared_model.supervision import guardian

_LOG_TAIL_LINES = 15
_LOG_TAIL_BYTES = 64 << 10


class Child:
    """A running or ended process and its log."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        """Process id, and id of the process group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """Exit status; negative: the signal that ended it; ``None`` while it runs."""
        return self._process.poll()

    def log_tail(self) -> str:
        """The last lines that the process wrote."""
        return tail(self.log)

    def kill(self) -> None:
        """``kill -9`` on the process alone, as a crash or a power cut would: for tests."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._process.wait()

    def terminate(self) -> None:
        """Ask the process to end; it ends its own children in order."""
        if self.running:
            self._process.terminate()

    def reap(self, deadline: float) -> None:
        """Wait until ``deadline`` (monotonic seconds), then kill; end what is left of the group."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(deadline - time.monotonic(), 0.0))
        guardian.end_groups([self.pid], 0.5)
        self._process.wait()


def tail(log: Path, lines: int = _LOG_TAIL_LINES) -> str:
    """The last lines of a log, without reading all of it."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - _LOG_TAIL_BYTES, 0))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
