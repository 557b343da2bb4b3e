"""Kills registered process groups when its standard input closes, however its parent ended.

Run as a script by :mod:`shared_model.supervision.guarded`; imports nothing of ours, so that it
starts in milliseconds. Its arguments are the groups to guard at first; each line of input is
``+PGID`` (guard this group) or ``-PGID`` (it is gone). The end of the input means that the parent
is gone, be it by ``kill -9``: every group still guarded is terminated, and killed three seconds
later.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable

_GRACE_S = 3.0


def main() -> None:
    """Guard until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    guarded = dict.fromkeys(map(int, sys.argv[1:]))
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            guarded[group] = None
        else:
            guarded.pop(group, None)
    end_groups(guarded, _GRACE_S)


def end_groups(groups: Iterable[int], grace_s: float) -> None:
    """Terminate process groups, wait ``grace_s`` seconds at most, and kill what is left."""
    left = [group for group in groups if _signal(group, signal.SIGTERM)]
    deadline = time.monotonic() + grace_s
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [group for group in left if _signal(group, 0)]
    for group in left:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    main()
