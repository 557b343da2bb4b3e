"""Reads a hash chain that another process appends to: only what is new is read and verified."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from shared_model.chain.lines import Link
from shared_model.chain.links import GENESIS, chain_digest, read_anchor
from shared_model.chain.pieces import digest_of, whole_lines

_L = TypeVar("_L", bound=Link)
_RECENT = 256


class ChainFollower(Generic[_L]):
    """Hands over the new lines of a chain; forgets them itself.

    A file that has not changed is not read. What was verified before is only compared by its
    digest; where it differs, or the file became shorter, everything is verified from the start.

    Args:
        path: the file of a :class:`~shared_model.chain.lines.ChainedLines`.
        kind: the model of a line.
        begin: called when reading starts from the first line (again).
        take: called with each verified line.
    """

    def __init__(
        self, path: Path, kind: type[_L], begin: Callable[[], None], take: Callable[[_L], None]
    ) -> None:
        self._path = path
        self._kind = kind
        self._begin = begin
        self._take = take
        self._seen: object = None
        self._problem: str | None = None
        self._restart()

    def _restart(self) -> None:
        self._offset = self._count = 0
        self._digest = GENESIS
        self._content = hashlib.sha256()
        self._recent: deque[tuple[int, str]] = deque([(0, GENESIS)], maxlen=_RECENT)
        self._anchored = 0
        self._begin()

    def follow(self) -> str | None:
        """Take what is new; what is wrong with the chain, or None where it holds so far."""
        # The anchor is written after its line, so it is read before the file.
        anchor = read_anchor(self._path.with_name(self._path.name + ".head"))
        try:
            with self._path.open("rb") as file:
                about = os.fstat(file.fileno())
                seen = (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns, anchor)
                if seen != self._seen:
                    self._problem = self._read(file.fileno()) or self._unanchored(anchor)
                    self._seen = seen
                return self._problem
        except FileNotFoundError:
            if self._count:
                self._restart()
            self._seen = None
            return self._unanchored(anchor)
        except OSError as error:
            return f"it cannot be read: {error.strerror}"

    def _read(self, descriptor: int) -> str | None:
        if digest_of(descriptor, self._offset) != self._content.digest():
            self._restart()
        for line in whole_lines(descriptor, self._offset):
            if not self._accept(line):
                return f"line {self._count + 1} does not continue the chain"
        return None

    def _accept(self, line: bytes) -> bool:
        try:
            link = self._kind.model_validate_json(line)
            content = link.model_dump(mode="json", exclude={"previous", "digest"})
            sound = link.previous == self._digest and link.number == self._count + 1
            sound = sound and chain_digest(self._digest, content) == link.digest
        except (ValidationError, ValueError):
            return False
        if sound:
            self._offset += len(line) + 1
            self._content.update(line + b"\n")
            self._count, self._digest = link.number, link.digest
            self._recent.append((link.number, link.digest))
            self._take(link)
        return sound

    def _unanchored(self, anchor: tuple[int, str] | None) -> str | None:
        if anchor is None or anchor in self._recent:
            self._anchored = self._count
            return None
        # An anchor older than what is remembered was compared when its line was new.
        if 0 < anchor[0] <= min(self._anchored, self._count - _RECENT):
            return None
        return f"{self._count} lines; the one that its anchor names is gone"
