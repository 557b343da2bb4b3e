"""Read the headers of a whole tree, on several processors where there are many."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from client.intake.header import DicomFile, read_header
from client.intake.series import Collection

_CHUNK = 256
#: Below that, starting processes takes longer than reading.
_MANY = 4000
#: Of a file: its header, or one of these.
OTHER, DAMAGED, UNREADABLE = "other", "damaged", "unreadable"


@dataclass(frozen=True)
class Counts:
    """How many files were read as what."""

    dicom: int
    other: int
    damaged: int
    unreadable: int


def read_tree(
    files: Sequence[tuple[Path, os.stat_result]],
    collection: Collection,
    workers: int,
    progress: Callable[[int, int], None],
) -> Counts:
    """Put the header of every file into ``collection``; no file stops the others."""
    counts = {OTHER: 0, DAMAGED: 0, UNREADABLE: 0}
    items = [(path, state.st_size) for path, state in files]
    chunks = [items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK)]
    dicom = done = 0
    for results in _results(chunks, workers if len(items) >= _MANY else 1):
        for result in results:
            if isinstance(result, str):
                counts[result] += 1
            else:
                dicom += 1
                collection.add(result)
        done += len(results)
        progress(done, len(items))
    return Counts(dicom, counts[OTHER], counts[DAMAGED], counts[UNREADABLE])


def _results(
    chunks: Sequence[Sequence[tuple[Path, int]]], workers: int
) -> Iterator[list[DicomFile | str]]:
    if workers == 1:
        yield from map(read_headers, chunks)
        return
    # Not forked: the calling process may have threads of torch.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield from pool.map(read_headers, chunks)
    finally:
        # Stopped in the middle, a with block would read all the rest first.
        pool.shutdown(wait=True, cancel_futures=True)


def read_headers(files: Sequence[tuple[Path, int]]) -> list[DicomFile | str]:
    """The header of each file, or what is in its place."""
    out: list[DicomFile | str] = []
    for path, size in files:
        try:
            out.append(read_header(path, size) or OTHER)
        except OSError:
            out.append(UNREADABLE)
        except ValueError:
            out.append(DAMAGED)
    return out
