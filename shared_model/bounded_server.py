"""A small HTTP server that strangers cannot hold up: so many connections, each for so long."""

from __future__ import annotations

import contextlib
import threading
from http.server import ThreadingHTTPServer
from socket import SHUT_RDWR, socket
from typing import Any


class BoundedServer(ThreadingHTTPServer):
    """One thread per connection; what is too many or lasts too long is hung up on.

    Attributes:
        connections: at a time.
        longest_s: seconds from beginning to end, however the sender spreads its bytes.
    """

    daemon_threads = True
    block_on_close = False
    connections = 32
    longest_s = 120.0

    def __init__(self, *arguments: Any) -> None:
        self._free = threading.BoundedSemaphore(self.connections)
        super().__init__(*arguments)

    def admits(self) -> bool:
        """Whether a connection may come now."""
        return True

    def secured(self, connection: socket) -> socket:
        """The connection as requests are read from it; raises OSError where that cannot be."""
        return connection

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread, unless too many are served already: then hang up."""
        if not self.admits() or not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread of one connection; a TLS handshake is part of it."""
        # A second hand on the same line: TLS takes the first one over.
        line = request.dup()
        end = threading.Timer(self.longest_s, _hang_up, (line,))
        end.daemon = True
        end.start()
        try:
            try:
                connection = self.secured(request)
            except OSError:
                self.shutdown_request(request)
                return
            super().process_request_thread(connection, client_address)
        finally:
            end.cancel()
            line.close()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who went away is no error of ours."""


def _hang_up(line: socket) -> None:
    with contextlib.suppress(OSError):  # it has hung up itself
        line.shutdown(SHUT_RDWR)
