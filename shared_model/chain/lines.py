"""Hash-chained JSON lines: receipts and decisions that nobody can change or drop unnoticed."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared_model.chain.links import (
    GENESIS,
    chain_digest,
    owner_only,
    read_anchor,
    write_anchor,
)
from shared_model.chain.pieces import PIECE_BYTES, digest_of, whole_lines


class Link(BaseModel):
    """What every line of a chain holds beside its own fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(description="1 for the first line")
    time: str = Field(description="UTC, ISO 8601")
    previous: str = Field(description="digest of the line before, zeros for the first")
    digest: str = Field(description="SHA-256 over the digest before and this line's content")


_L = TypeVar("_L", bound=Link)


class ChainedLines(Generic[_L]):
    """A file of lines of one kind; each is on the disk before :meth:`append` returns.

    A line that a crash cut short never counted; the next append drops it. ``<path>.head`` names a
    line that must be there, so that a shortened file is noticed. Safe under concurrent processes.

    Args:
        path: the file; its folder must exist when a line is appended.
        kind: the model of a line.
        altered: makes the error that is raised where the chain is broken, from what was found.
    """

    def __init__(self, path: Path, kind: type[_L], altered: Callable[[str], Exception]) -> None:
        self._path = path
        self._kind = kind
        self._altered = altered
        self._anchor = path.with_name(path.name + ".head")
        # What was verified last, known by the digest of its bytes: only what follows it is parsed
        # again, or n appends would cost n^2. The lines themselves are not kept, so that memory does
        # not grow with the file.
        self._known = _Verified()

    def append(self, fields: Mapping[str, object]) -> _L:
        """Store a line with these fields (JSON values); raises OSError when it cannot be written.

        Raises the error of ``altered`` when the lines before it do not hold.
        """
        with open(self._path, "a+b", opener=owner_only) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _drop_half_line(file)
            known = self._verify(file.fileno())
            number, previous = known.number + 1, known.digest
            time = datetime.now(UTC).isoformat(timespec="milliseconds")
            content = {"number": number, "time": time, **fields}
            digest = chain_digest(previous, content)
            link = self._kind.model_validate({**content, "previous": previous, "digest": digest})
            line = link.model_dump_json().encode() + b"\n"
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
            write_anchor(self._anchor, number, digest)
            self._known = replace(known.then(line, digest), anchor=(number, digest))
        return link

    def read(self) -> tuple[_L, ...]:
        """All lines, oldest first, verified."""
        return self.naming("")

    def naming(self, text: str) -> tuple[_L, ...]:
        """The lines in whose JSON ``text`` stands, oldest first; the whole chain is verified."""
        if not self._path.exists():
            self._verify(None)
            return ()
        sought = text.encode()
        with self._path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            self._verify(file.fileno())
            lines = whole_lines(file.fileno(), 0)
            return tuple(self._kind.model_validate_json(line) for line in lines if sought in line)

    def _verify(self, descriptor: int | None) -> _Verified:
        anchor, known = read_anchor(self._anchor), self._known
        if descriptor is None or digest_of(descriptor, known.length) != known.content.digest():
            known = _Verified()
        if known.anchor != anchor and (anchor is None or anchor[0] <= known.number):
            # It names an older line than the last, which may or may not be as it says.
            known = _Verified()
        anchored = anchor is None or known.anchor == anchor
        for line in () if descriptor is None else whole_lines(descriptor, known.length):
            known = self._then(known, line)
            anchored = anchored or (known.number, known.digest) == anchor
        if not anchored:
            raise self._altered(
                f"{known.number} lines; the one that {self._anchor.name} names is gone"
            )
        self._known = replace(known, anchor=anchor)
        return self._known

    def _then(self, known: _Verified, line: bytes) -> _Verified:
        try:
            link = self._kind.model_validate_json(line)
            fields = link.model_dump(mode="json", exclude={"previous", "digest"})
            sound = link.previous == known.digest and link.number == known.number + 1
            sound = sound and chain_digest(known.digest, fields) == link.digest
        except (ValidationError, ValueError):
            sound = False
        if not sound:
            raise self._altered(f"line {known.number + 1} does not continue the chain")
        return known.then(line + b"\n", link.digest)


@dataclass(frozen=True)
class _Verified:
    """The verified beginning of a file: its length and digest, and the line that it ends with.

    ``anchor``: what the anchor named then.
    """

    length: int = 0
    number: int = 0
    digest: str = GENESIS
    content: hashlib._Hash = field(default_factory=hashlib.sha256)
    anchor: tuple[int, str] | None = None

    def then(self, line: bytes, digest: str) -> _Verified:
        """With one more line, whose digest this is."""
        content = self.content.copy()
        content.update(line)
        return _Verified(self.length + len(line), self.number + 1, digest, content, self.anchor)


def _drop_half_line(file: BinaryIO) -> None:
    """What a crash cut short is removed."""
    size = end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - PIECE_BYTES)
        newline = os.pread(file.fileno(), end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        file.truncate(end)
