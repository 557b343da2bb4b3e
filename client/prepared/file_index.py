"""Digests of the archive's files, so that unchanged ones are not read again."""

from __future__ import annotations

import json
import time
from pathlib import Path

from client.agent.durable import write_durably
from client.archive.content import file_sha256

# A file changed this shortly before it was read may change again within the clock's resolution.
_RACY_NS = 2_000_000_000


class FileIndex:
    """SHA-256 by path, valid while size, time of change and inode stay the same (as git's index).

    The index holds paths of the archive and is readable by its owner only. A missing or damaged
    one costs time, nothing else.

    Args:
        path: the JSON file; written by :meth:`save`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[int | str]] = {}
        self._changed = False
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            self._known = known if isinstance(known, dict) else {}
        except (OSError, ValueError):
            pass

    def sha256(self, path: Path) -> str:
        """Digest of the file's bytes. Raises a Defect, SMR-E212, when it cannot be read."""
        try:
            stat = path.stat()
        except OSError:
            return file_sha256(path)
        state = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(str(path))
        if known is not None and known[:3] == state:
            return str(known[3])
        digest = file_sha256(path)
        if time.time_ns() - stat.st_mtime_ns > _RACY_NS:
            self._known[str(path)] = [*state, digest]
            self._changed = True
        return digest

    def save(self) -> None:
        """Write what is new. Raises OSError."""
        if self._changed:
            write_durably(self._path, json.dumps(self._known).encode())
            self._changed = False
