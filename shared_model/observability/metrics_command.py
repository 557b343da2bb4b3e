"""The body of both ``metrics`` commands: serve until told to stop, or write one file and end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from shared_model.observability.metrics_server import MetricsServer, write_textfile
from shared_model.supervision.end_signals import EndSignals


def serve_or_write(
    collect: Callable[[], str], port: int, textfile: Path | None, say: Callable[[str], None]
) -> None:
    """Write ``textfile`` where one is named; else serve on 127.0.0.1 until SIGTERM or Ctrl-C.

    Raises SMR-E446 when the port is taken or the file cannot be written.
    """
    if textfile is not None:
        write_textfile(textfile, collect())
        return
    with MetricsServer(port, collect) as server:
        end = EndSignals()
        # Beside, and not in a handler's thread: the interrupted one may hold the lock that starting
        # a thread takes.
        threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True).start()
        say(f"metrics on http://127.0.0.1:{server.server_port}/metrics")
        end.wait()
        server.shutdown()
