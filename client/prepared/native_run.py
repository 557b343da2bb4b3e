"""Prepare all native scans of an archive, several at once, whatever happens to single ones."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

from client.agent.state import StateFolder
from client.archive.problems import Defect, Problem
from client.prepared.native_recipe import NativeRecipe
from client.prepared.native_store import NativeScan
from client.prepared.no_room import no_room
from client.prepared.record import ScanDefect, ScanRecord

_log = logging.getLogger(__name__)
#: Called with how many of how many scans are done.
Progress = Callable[[int, int], None]
#: Memory that one process may need at its peak, bytes.
BYTES_PER_WORKER = 3 << 30
_MEMORY = Path("/proc/meminfo")


def default_workers() -> int:
    """Processes at once: one per core, as far as memory goes (3 GiB each)."""
    return max(1, min(len(os.sched_getaffinity(0)), _available_bytes() // BYTES_PER_WORKER))


def _available_bytes() -> int:
    """What may be used; the kernel's own figure counts file caches, which it gives back."""
    try:
        for line in _MEMORY.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def prepare_missing(
    recipe: NativeRecipe, paths: Sequence[Path], workers: int, progress: Progress
) -> int:
    """Prepare the scans that are not there yet; returns how many that were.

    Every finished scan is on the disk: a run that is stopped, killed or loses its power goes on
    where it was. A scan whose process dies, or runs out of memory, is tried once more alone, and
    recorded as SMR-E247 if it happens again. A file that cannot be read is left to the assessment.

    Raises SMR-E241 when there is no room for results.
    """
    missing = _missing(recipe, paths)
    count, done = len(missing), len(paths) - len(missing)
    progress(done, len(paths))

    def tell() -> None:
        nonlocal done
        done += 1
        progress(done, len(paths))

    while missing:
        suspects, missing = _in_parallel(recipe, missing, min(workers, len(missing)), tell)
        for path in suspects:
            if _in_parallel(recipe, [path], 1, tell)[0]:
                _record_death(recipe, path)
                tell()
    if count:
        # What was just written is read once more here, and not at every later start.
        _missing(recipe, paths)
    try:
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
            continue
        # Two files of the same bytes are one scan.
        if source not in seen and not recipe.store.is_whole(source):
            out.append(path)
        seen.add(source)
    return out


def _in_parallel(
    recipe: NativeRecipe, paths: Sequence[Path], workers: int, tell: Callable[[], None]
) -> tuple[list[Path], list[Path]]:
    """Prepare scans. Returns those in work when a process died, and those that were not begun."""
    # Not fork: torch's threads do not survive it.
    context = multiprocessing.get_context("spawn")
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    waiting = list(reversed(paths))
    running: dict[Future[None], Path] = {}
    starved: list[Path] = []
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(recipe, threads))
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                # A broken pool takes nothing: then the scan stays among those that wait.
                future = pool.submit(_prepare, waiting[-1])
                running[future] = waiting.pop()
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                try:
                    future.result()
                    tell()
                except MemoryError:
                    starved.append(running[future])
                del running[future]
    except BrokenProcessPool:
        _log.warning("a process that prepares scans died; its scans are tried again alone")
        return [*starved, *running.values()], list(reversed(waiting))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return starved, []


#: What a process of the pool prepares by; an atlas is loaded once per process, not once per scan.
_recipe: NativeRecipe | None = None
_threads = 1


def _start(recipe: NativeRecipe, threads: int) -> None:
    """In a new process. Nothing that can fail: a process that does not start counts as dead."""
    global _recipe, _threads
    _recipe, _threads = recipe, threads
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(OSError):
        logging.basicConfig(
            filename=StateFolder(recipe.state_dir).log,
            level=logging.WARNING,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )


def _end_with_parent() -> None:
    """A killed parent cannot end its processes; they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _prepare(path: Path) -> None:
    import torch

    from client.prepared.native_scan import prepare_native_scan

    assert _recipe is not None
    torch.set_num_threads(_threads)
    prepare_native_scan(_recipe, path)


def _record_death(recipe: NativeRecipe, path: Path) -> None:
    needed = f"{BYTES_PER_WORKER >> 30} GiB"
    defect = Defect(Problem.PROCESS_DIED, f"the process ended without a word; {needed} are needed")
    try:
        source = recipe.store.files.sha256(path)
    except Defect:
        return
    told = ScanDefect.of(defect, str(path))
    recipe.store.save(NativeScan(ScanRecord(source_sha256=source, defect=told)))
