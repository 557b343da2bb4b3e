"""A courier that is told to stop says so, and its message is sent again at once.

Flower 1.41 answers nothing when a signal ends ``flwr-clientapp``, as when the SuperExec above it
was killed: it notes the task as failed, and the coordinator waits for the rest of the deadline.
Here the signal interrupts the carrying instead, which then answers SMR-E459.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
_Doing = Literal["nothing", "carrying", "answering"]


class StoppedError(Exception):
    """The courier was told to stop while it carried a message."""


class StopSignals:
    """Takes the place of Flower's signal handlers; what Flower does at its own end stays.

    Args:
        register: Flower's ``register_signal_handlers``.
    """

    def __init__(self, register: Callable[..., None]) -> None:
        self._register = register
        self._doing: _Doing = "nothing"

    def register_signal_handlers(self, *args: Any, **kwargs: Any) -> None:
        """Called by Flower before it asks for the message."""
        self._register(*args, **kwargs)
        for number in _SIGNALS:
            signal.signal(number, self._stop)

    @contextmanager
    def during(self, doing: _Doing) -> Iterator[None]:
        """A signal raises StoppedError while a message is carried, and is ignored during an answer.

        A SuperNode waits for the rest of an answer for ever.
        """
        self._doing = doing
        try:
            yield
        finally:
            self._doing = "nothing"

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self._doing == "answering":
            return
        if self._doing == "nothing":
            # No message yet, or its answer was handed over: without a heartbeat Flower gives the
            # task out again, or tells the coordinator within a minute.
            os._exit(128 + number)
        # The supervisor and Flower's own watch over its parent both send one.
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise StoppedError(signal.Signals(number).name)
