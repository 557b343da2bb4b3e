"""Metrics for Prometheus on a loopback port, or in a file for the textfile collector."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from shared_model.bounded_server import BoundedServer
from shared_model.errors import SmrfedError
from shared_model.observability.prometheus import CONTENT_TYPE

_log = logging.getLogger(__name__)
_HOSTS = ("127.0.0.1", "localhost")
_READ_S = 10.0


class MetricsServer(BoundedServer):
    """Answers ``GET /metrics`` on 127.0.0.1 and nothing else; ``port`` 0 takes a free one.

    A request that names another host is refused: a web page in a browser on this machine could
    otherwise read the figures under a name of its own. Raises SMR-E446 when the port is not free.
    """

    def __init__(self, port: int, collect: Callable[[], str]) -> None:
        self.collect = collect
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise SmrfedError(
                "SMR-E446",
                f"the metrics cannot be served on 127.0.0.1:{port}",
                expected="a free port",
                found=error.strerror or error,
                remedy="name another one with --port, or end the process that holds it",
            ) from None


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = _READ_S
    server_version = "smrfed"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer Prometheus."""
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        if host not in _HOSTS:
            self._answer(403, b"ask 127.0.0.1\n")
        elif self.path.partition("?")[0] != "/metrics":
            self._answer(404, b"/metrics\n")
        else:
            try:
                content = self.server.collect().encode()
            except Exception:
                _log.exception("the metrics could not be gathered")
                self._answer(500, b"see the log\n")
            else:
                self._answer(200, content)

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing: a line every few seconds would hide the others."""


def write_textfile(path: Path, content: str) -> None:
    """Replace ``path`` (``*.prom``, mode 0644) in one step; raises SMR-E446."""
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        # node_exporter runs in an account of its own.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise SmrfedError(
            "SMR-E446",
            f"the metrics cannot be written to {path}",
            expected="a folder that this account can write to",
            found=error.strerror or error,
            remedy="make the folder, or give this account the right to write there",
        ) from None
