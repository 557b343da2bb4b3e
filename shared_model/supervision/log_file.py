"""A child's output, copied from its pipe into files that turn over."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

LOG_BYTES = 10 << 20
LOG_FILES = 5
_READ_BYTES = 1 << 16


class LogFile:
    """``PATH``, ``PATH.1``, ... : what a process wrote, ``files`` times ``max_bytes`` at most.

    Readable by their owner only. A disk that is full costs lines, never the process: the pipe is
    read on.
    """

    def __init__(self, path: Path, max_bytes: int = LOG_BYTES, files: int = LOG_FILES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._files = files
        self._lock = threading.Lock()

    def write(self, content: bytes) -> None:
        """Append, and turn over first where the file is full."""
        with self._lock, contextlib.suppress(OSError):
            if self._size() + len(content) > self._max_bytes:
                self._turn_over()
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            descriptor = os.open(self.path, flags, 0o600)
            with os.fdopen(descriptor, "ab", buffering=0) as file:
                file.write(content)

    def copy_from(self, pipe: int) -> threading.Thread:
        """Copy a pipe's content until its writers are gone, in a thread that is returned."""
        thread = threading.Thread(target=self._copy, args=(pipe,), daemon=True)
        thread.start()
        return thread

    def _copy(self, pipe: int) -> None:
        with contextlib.suppress(OSError):
            while content := os.read(pipe, _READ_BYTES):
                self.write(content)
        with contextlib.suppress(OSError):
            os.close(pipe)

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def _turn_over(self) -> None:
        names = [self.path, *(self._numbered(n) for n in range(1, self._files))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if newer.exists():
                newer.replace(older)

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
