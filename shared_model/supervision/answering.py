"""Whether a process that runs still answers: one that hangs does not end by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable

_EVERY_S = 30.0


class Answering:
    """Asks from a thread, so that a question that hangs holds nobody up.

    Args:
        ask: whether it answers; what it raises means no.
        clock: seconds, monotonic.
    """

    def __init__(
        self, ask: Callable[[], bool], clock: Callable[[], float], every_s: float = _EVERY_S
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._every_s = every_s
        self._heard = self._asked = clock()
        self._asking: threading.Thread | None = None

    def silent_s(self) -> float:
        """Seconds since the last answer, or since the beginning; asks again when it is time."""
        now = self._clock()
        free = self._asking is None or not self._asking.is_alive()
        if free and now - self._asked >= self._every_s:
            self._asked = now
            self._asking = threading.Thread(target=self._question, daemon=True, name="answers")
            self._asking.start()
        return now - self._heard

    def _question(self) -> None:
        try:
            if self._ask():
                self._heard = self._clock()
        except Exception:
            return  # no answer
