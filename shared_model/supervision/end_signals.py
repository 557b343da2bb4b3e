"""Waiting for SIGTERM or Ctrl-C, with nothing in between that a signal can miss.

A handler written in Python runs between two bytecodes. A signal that comes after the last of them
and before ``select`` sleeps would wake nobody: the process ends with the next signal, or never.
``threading.Event.set`` in a handler may moreover interrupt the very ``wait`` that holds the
event's lock. So the byte that wakes is written by the interpreter's own handler
(:func:`signal.set_wakeup_fd`), at the moment of the signal.
"""

from __future__ import annotations

import os
import select
import signal


class EndSignals:
    """Notes the signals from now on, also those that come before :meth:`wait`.

    One at a time in a process, made in its main thread; no other signal may have a handler in
    Python there, because it would count as one of these.
    """

    def __init__(self) -> None:
        self._told, tell = os.pipe()
        os.set_blocking(tell, False)
        # A full pipe is thousands of signals that nobody read: one is enough.
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether one of them came, at once or within ``timeout_s`` seconds; stays true."""
        return bool(select.select([self._told], [], [], timeout_s)[0])
