"""A small PNG writer, so that a page needs no imaging library."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Colour = tuple[int, int, int]


def encode_png(pixels: npt.NDArray[np.uint8], palette: Sequence[Colour]) -> bytes:
    """An 8-bit palette image (ISO/IEC 15948). The same pixels give the same bytes.

    Args:
        pixels: ``(rows, columns)`` indices into the palette, from the top left.
        palette: up to 256 colours. Raises ValueError for a pixel beyond it.
    """
    if not 0 < len(palette) <= 256 or (pixels.size and int(pixels.max()) >= len(palette)):
        raise ValueError("every pixel must be an index into a palette of 1 to 256 colours")
    rows, columns = pixels.shape
    # Each row starts with its filter: 0, none, which suits palettes.
    lines = np.zeros((rows, columns + 1), dtype=np.uint8)
    lines[:, 1:] = pixels
    head = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    colours = bytes(part for colour in palette for part in colour)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", head),
            _chunk(b"PLTE", colours),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def encode_colour_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """An 8-bit RGB image of ``(rows, columns, 3)``, from the top left. The same pixels, the same
    bytes. Raises ValueError for another shape or type.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"expected (rows, columns, 3) uint8, found {pixels.shape} {pixels.dtype}")
    rows, columns, _ = pixels.shape
    lines = np.zeros((rows, columns * 3 + 1), dtype=np.uint8)
    lines[:, 1:] = pixels.reshape(rows, columns * 3)
    head = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", head),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def data_url(png: bytes) -> str:
    """The image as text for an ``img`` element."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
