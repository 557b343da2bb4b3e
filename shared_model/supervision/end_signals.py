"""Waiting for SIGTERM or Ctrl-C, with a handler that takes no lock.

``threading.Event.set`` in a handler may interrupt the very ``wait`` that holds the event's lock,
and then the process never ends (seen once in 1500 tries).
"""

from __future__ import annotations

import os
import select
import signal


class EndSignals:
    """Notes the signals from now on, also those that come before :meth:`wait`."""

    def __init__(self) -> None:
        self._told, self._tell = os.pipe()
        os.set_blocking(self._tell, False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether one of them came, at once or within ``timeout_s`` seconds; stays true."""
        return bool(select.select([self._told], [], [], timeout_s)[0])

    def _note(self, *_: object) -> None:
        try:
            os.write(self._tell, b"x")
        except BlockingIOError:
            return  # thousands of signals that nobody read: one is enough
