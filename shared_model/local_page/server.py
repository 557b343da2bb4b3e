"""The HTTP server of a local page: loopback only, a bounded number of connections."""

from __future__ import annotations

import threading
from types import TracebackType

from shared_model.bounded_server import BoundedServer
from shared_model.errors import SmrfedError
from shared_model.local_page.access import Access
from shared_model.local_page.answers import Answers
from shared_model.local_page.handler import handler_of

_HOST = "127.0.0.1"


class PageServer:
    """Serves ``answers`` on 127.0.0.1 from a thread of its own; a context manager.

    Args:
        port: 0 takes a free one.
        token: opens the page.
        title: heads the login page.

    Raises SMR-E575 where the port cannot be used.
    """

    def __init__(self, port: int, token: str, answers: Answers, title: str) -> None:
        access = Access(token)
        try:
            # Cookies do not know ports: two pages of one machine must not overwrite each other's.
            self._server = BoundedServer(
                (_HOST, port), handler_of(access, answers, title, "smrfed")
            )
        except (OSError, OverflowError) as error:
            raise SmrfedError(
                "SMR-E575",
                f"the page cannot be served on {_HOST}:{port}",
                found=error,
                remedy="stop what uses the port, or choose another with --port",
            ) from None
        cookie = f"smrfed_{self.port}"
        self._server.RequestHandlerClass = handler_of(access, answers, title, cookie)
        self._thread = threading.Thread(target=self._serve, daemon=True, name="local page")

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    @property
    def address(self) -> str:
        """``http://127.0.0.1:PORT/``."""
        return f"http://{_HOST}:{self.port}/"

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.2)

    def __enter__(self) -> PageServer:
        """Begin to serve."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop serving."""
        self.stop()
