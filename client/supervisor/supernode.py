"""Flower's SuperNode in a process that ends when it no longer does its work.

Run as::

    python -P -m client.supervisor.supernode flower-supernode OPTIONS_OF_FLOWER_SUPERNODE...

Flower 1.41 retries what it takes for a lost connection. Anything else that the network answers (a
TLS error, a proxy's 403 or 407, a 404 or 500 of a server that is being set up) ends the loop that
fetches messages, or the thread that says that the node is there. The process itself stays, for the
local interface that its SuperExec asks: connected for nobody, and ended for no supervisor.
"""

from __future__ import annotations

import os
import sys
import threading

from flwr.supernode.cli import flower_supernode

from client.supervisor.lost_connection import LOST

_FAILED = 1


def main() -> None:
    """Run the SuperNode; the process ends with its main loop, or with any thread that fails."""
    sys.argv = sys.argv[1:]
    threading.excepthook = _thread_failed
    status = _FAILED
    try:
        flower_supernode()
        print(f"{LOST}: it no longer fetches messages", file=sys.stderr)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    _end(status)


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    threading.__excepthook__(failed)
    name = "" if failed.thread is None else failed.thread.name
    print(f"{LOST}: its thread {name} failed", file=sys.stderr)
    _end(_FAILED)


def _end(status: int) -> None:
    """End at once: an ordinary end would wait for the thread of the local interface, for ever."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
