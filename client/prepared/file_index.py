"""Digests of files, so that unchanged ones are not read again."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from client.agent.durable import write_durably
from client.archive.content import read_sha256

# A file changed this shortly before it was read may change again within the clock's resolution.
_RACY_NS = 2_000_000_000


class FileIndex:
    """SHA-256 by path, valid while size, times of change and inode stay the same (as git's index).

    The time of change of the inode (``ctime``) is among them: no program can set it back. Paths are
    kept as digests, because folders of an archive may be named after people. A missing or damaged
    index costs time, nothing else.

    Args:
        path: the JSON file; written by :meth:`save`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path)
        self._asked: dict[str, list[int | str]] = {}

    def sha256(self, path: Path) -> str:
        """Digest of the file's bytes. Raises a Defect, SMR-E212, when it cannot be read."""
        before, name = _state(path), _name(path)
        known = self._known.get(name)
        if before is not None and known is not None and known[:-1] == before:
            self._asked[name] = known
            return str(known[-1])
        digest = read_sha256(path)
        # What changes while it is read is read again next time.
        if before is not None and before == _state(path) and _is_settled(before):
            self._asked[name] = self._known[name] = [*before, digest]
        return digest

    def save(self) -> None:
        """Write what was asked for since the start, if anything of it is new. Raises OSError.

        Files that nobody asked for any more, of a patient who was withdrawn, are forgotten.
        """
        if self._asked != _read(self._path):
            write_durably(self._path, json.dumps(self._asked).encode())


def _name(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def _state(path: Path) -> list[int | str] | None:
    try:
        stat = os.stat(path)  # noqa: PTH116 - a pathlib object per file costs as much again
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _is_settled(state: list[int | str]) -> bool:
    _, modified, changed, _ = state
    return time.time_ns() - max(int(modified), int(changed)) > _RACY_NS


def _read(path: Path) -> dict[str, list[int | str]]:
    """The entries of a saved index that are sound; none where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: entry for name, entry in content.items() if _is_sound(entry)}


def _is_sound(entry: object) -> bool:
    if not isinstance(entry, list) or len(entry) != 5:
        return False
    *state, digest = entry
    return all(type(n) is int for n in state) and isinstance(digest, str) and len(digest) == 64
