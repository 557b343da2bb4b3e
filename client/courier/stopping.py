"""A courier that is told to stop says so, and its message is sent again at once.

Flower 1.41 answers nothing when a signal ends ``flwr-clientapp``, as when the SuperExec above it
was killed: it notes the task as failed, and the coordinator waits for the rest of the deadline.
Here a signal ends the wait for the agent instead, and SMR-E459 is the answer.

No handler raises: an exception between any two bytecodes of the call to the agent leaves gRPC's
locks as they happen to be, and closing its channel then waits for ever.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal, TypeVar

_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGQUIT})
_DONE = b"\0"
_Answer = TypeVar("_Answer")


class StoppedError(Exception):
    """The courier was told to stop while it carried a message."""


class StopSignals:
    """Takes the place of Flower's signal handlers; what Flower does at its own end stays.

    Args:
        register: Flower's ``register_signal_handlers``.
    """

    def __init__(self, register: Callable[..., None]) -> None:
        self._register = register
        self._holds: Literal["nothing", "a message"] = "nothing"

    def register_signal_handlers(self, *args: Any, **kwargs: Any) -> None:
        """Called by Flower before it asks for the message."""
        self._register(*args, **kwargs)
        # The interpreter's own handler writes the number of a signal at once; one in Python would
        # wait for the next bytecode, which a sleeping process never reaches. Never closed: a call
        # that nobody waits for any more may write to it.
        self._told, self._tell = os.pipe()
        os.set_blocking(self._tell, False)
        signal.set_wakeup_fd(self._tell, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._stop)

    def hold(self) -> None:
        """The message is here: until its answer was handed over no signal ends the process."""
        self._holds = "a message"

    def unless_told(self, carry: Callable[[], _Answer]) -> _Answer:
        """What ``carry`` returns or raises; StoppedError if a signal came since :meth:`hold`.

        A ``carry`` that is not waited for goes on beside the answer, and ends with the process.
        """
        future: Future[_Answer] = Future()

        def work() -> None:
            try:
                future.set_result(carry())
            except BaseException as error:
                future.set_exception(error)
            os.write(self._tell, _DONE)

        threading.Thread(target=work, name="carry", daemon=True).start()
        while not future.done():
            came = _SIGNALS.intersection(os.read(self._told, 64))
            if came and not future.done():
                raise StoppedError(signal.Signals(min(came)).name)
        return future.result()

    @contextmanager
    def handing_over(self) -> Iterator[None]:
        """No signal cuts an answer short: a SuperNode waits for the rest of it for ever."""
        self._holds = "a message"
        try:
            yield
        finally:
            self._holds = "nothing"

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self._holds == "nothing":
            # No whole message yet, or its answer was handed over: without a heartbeat Flower gives
            # the task out again, or tells the coordinator within a minute.
            os._exit(128 + number)
