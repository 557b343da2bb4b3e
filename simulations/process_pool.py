"""Independent work in several processes: results as they come, and nobody left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from typing import Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    done: Callable[[Item, Result], None],
) -> None:
    """Do every item in up to ``workers`` processes; see :class:`Processes`."""
    with Processes(min(workers, len(items))) as processes:
        processes.spread(work, items, done)


class Processes:
    """Worker processes that are started when they are first needed, and ended with the block.

    One worker is this process itself. Others are spawned, not forked: the caller may hold threads
    (torch, gRPC). They run one numeric thread each and end when their parent does; with ``gpus``
    (names for ``CUDA_VISIBLE_DEVICES``) there is one worker for each of them. On Ctrl-C, or an
    error of an item, they are ended at once: an item must write its files atomically.
    """

    def __init__(self, workers: int, gpus: Sequence[str] = ()) -> None:
        self._workers = len(gpus) or workers
        self._gpus = tuple(gpus)
        self._pool: ProcessPoolExecutor | None = None
        self._others: set[BaseProcess] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is None:
            return
        if kind is not None:
            for worker in set(active_children()) - self._others:
                worker.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def spread(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        done: Callable[[Item, Result], None],
    ) -> None:
        """Do every item, and tell ``done`` its result here, in the order in which they finish."""
        if self._workers <= 1 and not self._gpus:
            for item in items:
                done(item, work(item))
            return
        with _single_threaded():
            pool = self._started()
            futures = {pool.submit(_with_memory_given_back, work, item): item for item in items}
            for future in as_completed(futures):
                done(futures[future], future.result())

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = get_context("spawn")
            names = context.SimpleQueue()
            for name in self._gpus:
                names.put(name)
            self._others = set(active_children())
            self._pool = ProcessPoolExecutor(
                self._workers,
                mp_context=context,
                initializer=_start,
                initargs=(names if self._gpus else None,),
            )
        return self._pool


def give_memory_back() -> None:
    """Hand what is free to the system: the allocator's settings (start_environment) keep it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


def _with_memory_given_back(work: Callable[[Item], Result], item: Item) -> Result:
    try:
        return work(item)
    finally:
        give_memory_back()


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Set for workers to inherit: numeric libraries ignore what is set after their import."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _start(gpus: SimpleQueue[str] | None) -> None:
    if gpus is not None:
        # Before torch looks for devices: it is imported with the first item.
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus.get()
    # Ctrl-C goes to the whole terminal; the parent ends its workers without their tracebacks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()


def _end_with_parent() -> None:
    """End this worker when its parent is gone: a killed parent cannot tell it to."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
