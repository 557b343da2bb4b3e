"""SIGTERM and Ctrl-C end a waiting process whenever they come."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

#: ``select`` asks its argument for the descriptor with no bytecode before it sleeps; the answer
#: comes from C, which raises the signal there: the last moment at which one can be missed.
AT_THE_LAST_MOMENT = """
import ctypes, functools, os, signal, sys
from shared_model.supervision.end_signals import EndSignals
end = EndSignals()
os.dup2(end._told, 0)  # what C's raise returns
class Raises:
    fileno = functools.partial(getattr(ctypes.CDLL(None), "raise"), int(sys.argv[1]))
end._told = Raises()
print(end.wait(20.0), end.wait(0.0))
"""

BEFORE_OR_NEVER = """
import os, signal, sys
from shared_model.supervision.end_signals import EndSignals
end = EndSignals()
print(end.wait(0.05))
for _ in range(70_000):  # more than a pipe holds
    os.kill(os.getpid(), int(sys.argv[1]))
print(end.wait(), end.wait(0.0))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("program", "says"), [(AT_THE_LAST_MOMENT, "True True"), (BEFORE_OR_NEVER, "False True True")]
)
def test_no_signal_is_missed(number: signal.Signals, program: str, says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, str(int(number))],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == says.split()
    assert done.stderr == ""
    assert done.returncode == 0
