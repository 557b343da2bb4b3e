"""Reads a file that grows piece by piece, so that memory does not grow with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

PIECE_BYTES = 1 << 16


def digest_of(descriptor: int, length: int) -> bytes:
    """SHA-256 of so many first bytes."""
    content, offset = hashlib.sha256(), 0
    while offset < length:
        piece = os.pread(descriptor, min(PIECE_BYTES, length - offset), offset)
        if not piece:
            break
        content.update(piece)
        offset += len(piece)
    return content.digest()


def whole_lines(descriptor: int, offset: int) -> Iterator[bytes]:
    """Lines from ``offset`` that end in a newline; half a line waits for the next call."""
    left = b""
    while piece := os.pread(descriptor, PIECE_BYTES, offset):
        offset += len(piece)
        *lines, left = (left + piece).split(b"\n")
        yield from lines
