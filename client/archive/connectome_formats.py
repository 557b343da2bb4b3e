"""Matrices from bytes that a hospital's pipeline wrote: text, numpy and MATLAB; nothing is run."""

from __future__ import annotations

import io
from pathlib import PurePath

import numpy as np
import numpy.typing as npt

from shared_model.connex.parcellation import MOST_REGIONS

#: A file of the largest parcellation as text is well below.
MOST_BYTES = 32 << 20
_HDF5 = b"\x89HDF\r\n\x1a\n"
_NOT_NUMERIC = "a cell that is no number"


class Unreadable(Exception):  # noqa: N818 - a finding; the archive's error tells it to a person
    """Why bytes are no matrix."""


def parse(body: io.BytesIO, suffix: str) -> npt.NDArray[np.float64]:
    """The one matrix of a file by its name's ending; raises :class:`Unreadable`."""
    match suffix.lower():
        case ".tsv":
            return _text(body, "\t")
        case ".csv":
            return _text(body, ",")
        case ".npy":
            return _numpy(body)
        case ".mat":
            return _matlab(body)
    raise Unreadable(f"no connectome ends in {PurePath(suffix)}")


def _text(body: io.BytesIO, separator: str) -> npt.NDArray[np.float64]:
    try:
        lines = body.getvalue().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise Unreadable(f"no UTF-8 text: {error}") from None
    rows = [line.rstrip("\r").split(separator) for line in lines if line.strip()]
    if not rows or len(rows) > MOST_REGIONS + 1 or max(map(len, rows)) > MOST_REGIONS:
        raise Unreadable(f"{len(rows)} rows, at most {MOST_REGIONS} are read")
    # A line of names above the numbers, as pandas writes it.
    first = 1 if len(rows) == len(rows[0]) + 1 and not _is_number(rows[0][0]) else 0
    if len({len(row) for row in rows[first:]}) != 1:
        raise Unreadable("rows of different lengths")
    try:
        return np.array([[float(cell) for cell in row] for row in rows[first:]], np.float64)
    except ValueError:
        raise Unreadable(_NOT_NUMERIC) from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numpy(body: io.BytesIO) -> npt.NDArray[np.float64]:
    try:
        array = np.load(body, allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError, SyntaxError) as error:
        raise Unreadable(f"no plain .npy array: {error}") from None
    if not isinstance(array, np.ndarray):
        raise Unreadable("an archive of several arrays (.npz)")
    return _numbers(array)


def _matlab(body: io.BytesIO) -> npt.NDArray[np.float64]:
    if body.getvalue()[:8] == _HDF5 or b"MATLAB 7.3" in body.getvalue()[:128]:
        raise Unreadable("MATLAB version 7.3 (HDF5); save it with '-v7'")
    from scipy.io import loadmat, whosmat

    try:
        found = [(name, shape) for name, shape, _ in whosmat(body)]
        large = [name for name, shape in found if max(shape, default=0) > MOST_REGIONS]
        if len(found) != 1 or large:
            raise Unreadable(f"variables {found[:5]}, not one matrix")
        body.seek(0)
        value = loadmat(body, variable_names=[found[0][0]], struct_as_record=True)[found[0][0]]
    except Unreadable:
        raise
    except Exception as error:  # scipy raises whatever its parser stumbles over
        raise Unreadable(f"no MATLAB file: {error}") from None
    return _numbers(np.asarray(value))


def _numbers(array: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    if array.dtype.kind not in "fiub":
        raise Unreadable(_NOT_NUMERIC)
    if array.ndim != 2 or max(array.shape) > MOST_REGIONS:
        raise Unreadable(f"an array of shape {array.shape}, not a matrix")
    return array.astype(np.float64)
