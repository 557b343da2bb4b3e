"""The guardian's owner: process groups that end when this process ends, however it ends."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from shared_model.supervision import guardian


class Guardian:
    """A small process that ends the registered process groups when this one is gone.

    Even ``kill -9`` closes the pipe on which the guardian waits. One that was killed itself is
    started again by the next :meth:`check`, with all groups.
    """

    def __init__(self) -> None:
        self._groups: dict[int, None] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start guarding."""
        self._process = subprocess.Popen(
            # From its first moment it knows all groups: this process may be killed at any time.
            [sys.executable, "-I", str(Path(guardian.__file__)), *map(str, self._groups)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int | None:
        """Process id while it guards."""
        return None if self._process is None else self._process.pid

    def add(self, group: int) -> None:
        """Guard a process group."""
        if self._process is None:
            raise RuntimeError("the guardian was not started")
        self._groups[group] = None
        self._tell("+", group)

    def remove(self, group: int) -> None:
        """Forget a process group that has ended."""
        self._groups.pop(group, None)
        self._tell("-", group)

    def check(self) -> None:
        """Start the guardian again if it has died."""
        if self._process is not None and self._process.poll() is not None:
            self.start()

    def close(self) -> None:
        """Let the guardian end whatever is left, and wait for it."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _tell(self, sign: str, group: int) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(f"{sign}{group}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            # It was killed; check() starts another one, which is told all groups.
            return
