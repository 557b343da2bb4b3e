"""Prepare all native scans of an archive, several at once, whatever happens to single ones."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from client.archive.problems import Defect, Problem
from client.prepared.native_scan import NativeRecipe, prepare_native_scan
from client.prepared.native_store import NativeScan, no_room
from client.prepared.record import ScanDefect, ScanRecord

_log = logging.getLogger(__name__)
#: Called with how many of how many scans are done.
Progress = Callable[[int, int], None]
#: Memory that one process may need at its peak, bytes.
BYTES_PER_WORKER = 3 << 30


def default_workers() -> int:
    """Processes at once: one per core, as far as memory goes (3 GiB each)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // BYTES_PER_WORKER))


def prepare_missing(
    recipe: NativeRecipe, paths: Sequence[Path], workers: int, progress: Progress
) -> int:
    """Prepare the scans that are not there yet; returns how many that were.

    Every finished scan is on the disk: a run that is stopped, killed or loses its power goes on
    where it was. A scan whose process dies (most likely for want of memory) is tried once more
    alone, and recorded as SMR-E247 if it dies again.

    Raises SMR-E241 when there is no room for results.
    """
    missing = _missing(recipe, paths)
    count, done = len(missing), len(paths) - len(missing)
    progress(done, len(paths))

    def tell(_record: ScanRecord) -> None:
        nonlocal done
        done += 1
        progress(done, len(paths))

    try:
        while missing:
            suspects, missing = _in_parallel(recipe, missing, workers, tell)
            for path in suspects:
                if _in_parallel(recipe, [path], 1, tell)[0]:
                    tell(_record_death(recipe, path))
        recipe.store.files.save()
    except OSError as error:
        raise no_room(recipe.state_dir / "prepared", error) from None
    return count


def _missing(recipe: NativeRecipe, paths: Sequence[Path]) -> list[Path]:
    out, seen = [], set()
    for path in paths:
        try:
            source = recipe.store.files.sha256(path)
        except Defect:
            out.append(path)
            continue
        # Two files of the same bytes are one scan.
        if source not in seen and not recipe.store.is_whole(source):
            out.append(path)
        seen.add(source)
    return out


def _in_parallel(
    recipe: NativeRecipe, paths: Sequence[Path], workers: int, tell: Callable[[ScanRecord], None]
) -> tuple[list[Path], list[Path]]:
    """Prepare scans. Returns those in work when a process died, and those that were not begun."""
    # Not fork: torch's threads do not survive it.
    context = multiprocessing.get_context("spawn")
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    waiting = list(reversed(paths))
    running: dict[Future[ScanRecord], Path] = {}
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(threads,))
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                path = waiting.pop()
                running[pool.submit(prepare_native_scan, recipe, path)] = path
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                tell(future.result())
                del running[future]
    except BrokenProcessPool:
        _log.warning("a process that prepares scans died; its scans are tried again alone")
        return list(running.values()), list(reversed(waiting))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return [], []


def _start(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _record_death(recipe: NativeRecipe, path: Path) -> ScanRecord:
    needed = f"{BYTES_PER_WORKER >> 30} GiB"
    defect = Defect(Problem.PROCESS_DIED, f"the process ended without a word; {needed} are needed")
    record = ScanRecord(
        source_sha256=recipe.store.files.sha256(path), defect=ScanDefect.of(defect, str(path))
    )
    recipe.store.save(NativeScan(record))
    return record
