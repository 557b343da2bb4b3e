"""Values that take long to compute: asked for again and again, there once they are known."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

_T = TypeVar("_T")
_PENDING = object()
_FAILED = object()

_log = logging.getLogger(__name__)


class Background:
    """Computes one value after the other in a thread; keeps the last ``kept`` of them.

    A value is known by its key for ever, so a key must hold everything that it depends on.
    """

    def __init__(self, kept: int = 4096) -> None:
        self._kept = kept
        self._known: OrderedDict[Hashable, Any] = OrderedDict()
        self._waiting: OrderedDict[Hashable, Callable[[], Any]] = OrderedDict()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def get(self, key: Hashable, compute: Callable[[], _T]) -> _T | None:
        """The value, or None while it is not known (or could not be computed)."""
        with self._changed:
            found = self._known.get(key, _PENDING)
            if found is not _PENDING:
                self._known.move_to_end(key)
                return None if found is _FAILED else found
            if key not in self._waiting and len(self._waiting) < self._kept:
                self._waiting[key] = compute
                self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="figures")
                self._thread.start()
        return None

    def settle(self, timeout_s: float) -> bool:
        """Wait until nothing is left to compute; false when the time was up."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                key, compute = next(iter(self._waiting.items()))
            try:
                value: Any = compute()
            except Exception:
                _log.exception("a figure could not be computed")
                value = _FAILED
            with self._changed:
                self._known[key] = value
                del self._waiting[key]
                while len(self._known) > self._kept:
                    self._known.popitem(last=False)
                self._changed.notify_all()
