"""Hash-chained JSON lines: receipts and decisions that nobody can change or drop unnoticed."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Mapping
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
        # What was verified last: the digest of the whole file and the anchor, and the lines. A file
        # of the same bytes is not verified again, which would make n appends cost n^2.
        self._verified: tuple[tuple[bytes, tuple[int, str] | None], tuple[_L, ...]] | None = None

    def append(self, fields: Mapping[str, object]) -> _L:
        """Store a line with these fields (JSON values); raises OSError when it cannot be written.

        Raises the error of ``altered`` when the lines before it do not hold.
        """
        with open(self._path, "a+b", opener=owner_only) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            content_before = _complete_content(file)
            known = self._verify(content_before)
            number, previous = (known[-1].number + 1, known[-1].digest) if known else (1, GENESIS)
            time = datetime.now(UTC).isoformat(timespec="milliseconds")
            content = {"number": number, "time": time, **fields}
            digest = chain_digest(previous, content)
            link = self._kind.model_validate({**content, "previous": previous, "digest": digest})
            line = link.model_dump_json().encode() + b"\n"
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
            write_anchor(self._anchor, number, digest)
            whole = hashlib.sha256(content_before + line).digest()
            self._verified = (whole, (number, digest)), (*known, link)
        return link

    def read(self) -> tuple[_L, ...]:
        """All lines, oldest first, verified."""
        if not self._path.exists():
            return self._verify(b"")
        with self._path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            content = file.read()
            return self._verify(content[: content.rfind(b"\n") + 1])

    def _verify(self, content: bytes) -> tuple[_L, ...]:
        anchor = read_anchor(self._anchor)
        key = hashlib.sha256(content).digest(), anchor
        if self._verified is None or self._verified[0] != key:
            self._verified = key, self._parse(content.split(b"\n")[:-1], anchor)
        return self._verified[1]

    def _parse(self, lines: list[bytes], anchor: tuple[int, str] | None) -> tuple[_L, ...]:
        previous, anchored = GENESIS, anchor is None
        out: list[_L] = []
        for number, line in enumerate(lines, start=1):
            try:
                link = self._kind.model_validate_json(line)
                content = link.model_dump(mode="json", exclude={"previous", "digest"})
                sound = link.previous == previous and link.number == number
                sound = sound and chain_digest(previous, content) == link.digest
            except (ValidationError, ValueError):
                sound = False
            if not sound:
                raise self._altered(f"line {number} does not continue the chain")
            previous = link.digest
            anchored = anchored or (number, previous) == anchor
            out.append(link)
        if not anchored:
            raise self._altered(
                f"{len(lines)} lines; the one that {self._anchor.name} names is gone"
            )
        return tuple(out)


def _complete_content(file: BinaryIO) -> bytes:
    """All whole lines; what a crash cut short is removed."""
    file.seek(0)
    content = file.read()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        file.truncate(end)
    return content[:end]
