"""A value that is looked up again and again beside a page, which never waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")

_log = logging.getLogger(__name__)


class Renewed(Generic[_T]):
    """Looks ``look`` up in a thread, every ``every_s`` seconds while somebody asks.

    Args:
        look: what it raises is logged, and the value before stays.
        first_s: how long the first question waits for an answer.
    """

    def __init__(
        self,
        look: Callable[[], _T],
        every_s: float,
        *,
        first_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._every_s = every_s
        self._first_s = first_s
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._busy = False
        self._known: _T | None = None
        self._first = threading.Event()

    def now(self) -> _T | None:
        """The value that was found last; None before the first."""
        with self._lock:
            due = self._asked_at is None or self._clock() - self._asked_at >= self._every_s
            if due and not self._busy:
                self._busy, self._asked_at = True, self._clock()
                threading.Thread(target=self._renew, daemon=True, name="look").start()
        self._first.wait(self._first_s)
        return self._known

    @property
    def slow_s(self) -> float:
        """For how many seconds the look that is under way has lasted; 0 when there is none."""
        with self._lock:
            asked = self._asked_at
            return self._clock() - asked if self._busy and asked is not None else 0.0

    def _renew(self) -> None:
        try:
            self._known = self._look()
        except Exception:
            _log.exception("something could not be looked up")
        finally:
            with self._lock:
                self._busy = False
            self._first.set()
