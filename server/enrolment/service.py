"""The enrolment service: a small HTTP server on loopback, behind the proxy that ends TLS.

Four requests, each authenticated in its body; everything else is answered 403. Bounded in every
direction: bytes of a request, seconds of a connection, connections at a time, requests per second.
Request bodies hold a secret and are never logged.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socket import socket
from typing import Any

from pydantic import BaseModel, ValidationError

from server.enrolment.enroller import Enroller
from shared_model.bounded_server import BoundedServer
from shared_model.enrolment.messages import (
    ENROLMENT_PATH,
    MAX_MESSAGE_BYTES,
    JoinRequest,
    LookRequest,
    NewsRequest,
    Refusal,
    RotateRequest,
)
from shared_model.errors import SmrfedError

_TIMEOUT_S = 15.0
# From beginning to end, however the sender spreads its bytes; the hospital waits no longer either.
_LONGEST_S = 30.0
_CONNECTIONS = 16
_PER_SECOND = 20.0
_BURST = 60.0
_STATUS = {"SMR-E597": HTTPStatus.CONFLICT, "SMR-E596": HTTPStatus.SERVICE_UNAVAILABLE}

_log = logging.getLogger(__name__)


class EnrolmentServer(BoundedServer):
    """Serves an :class:`Enroller`; ``tls`` where no proxy stands before it.

    Args:
        enroller: what answers.
        address: host and port, of loopback; port 0 takes a free one.
        tls: path pair of certificate chain and key, or none for plain HTTP.
    """

    request_queue_size = 32

    def __init__(
        self,
        enroller: Enroller,
        address: tuple[str, int],
        tls: tuple[str, str] | None = None,
    ) -> None:
        self.actions: dict[str, Callable[[bytes], BaseModel]] = {
            "look": lambda body: enroller.look(LookRequest.model_validate_json(body)),
            "join": lambda body: enroller.join(JoinRequest.model_validate_json(body)),
            "news": lambda body: enroller.news(NewsRequest.model_validate_json(body)),
            "rotate": lambda body: enroller.rotate(RotateRequest.model_validate_json(body)),
        }
        self._tls = tls
        self.connections, self.longest_s = _CONNECTIONS, _LONGEST_S
        self._pace = _Pace(_PER_SECOND, _BURST)
        super().__init__(address, _Handler)

    def admits(self) -> bool:
        """Not too fast."""
        return self._pace.allows()

    def secured(self, connection: socket) -> socket:
        """With TLS where no proxy ends it."""
        connection.settimeout(_TIMEOUT_S)
        return connection if self._tls is None else self._wrap(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is nobody's concern; the rest is logged without its content."""
        _log.info("a connection to the enrolment service broke", exc_info=True)

    def _wrap(self, connection: socket) -> socket:
        assert self._tls is not None
        # Read anew for each connection, so that a reissued certificate is served at once.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*self._tls)
        return context.wrap_socket(connection, server_side=True)


class _Handler(BaseHTTPRequestHandler):
    server: EnrolmentServer
    server_version = "smrfed"
    sys_version = ""

    def do_POST(self) -> None:
        name = self.path.removeprefix(ENROLMENT_PATH)
        action = self.server.actions.get(name) if self.path.startswith(ENROLMENT_PATH) else None
        body = self._body()
        if action is None or body is None:
            self._answer(HTTPStatus.FORBIDDEN, None)
            return
        try:
            self._answer(HTTPStatus.OK, action(body))
        except ValidationError:
            # Not repeated: the words of pydantic may hold a secret.
            self._answer(HTTPStatus.FORBIDDEN, None)
        except SmrfedError as error:
            said = error.render().replace("\n", ";")
            _log.warning("%s from %s refused: %s", name, self._sender(), said)
            self._answer(_STATUS.get(error.code, HTTPStatus.FORBIDDEN), _refusal(error))
        except Exception:
            _log.exception("the enrolment service failed at %s", name)
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, None)

    def _forbid(self) -> None:
        self._answer(HTTPStatus.FORBIDDEN, None)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = _forbid  # noqa: N815

    def _sender(self) -> str:
        """The site's address as nginx tells it, which overwrites what a client may claim."""
        told = self.headers.get("X-Real-IP", "")
        plain = told.isascii() and told.isprintable() and 0 < len(told) <= 45
        return told if plain else str(self.client_address[0])

    def _body(self) -> bytes | None:
        """The request's body; none when it has no honest length, or is too large."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or len(length) > 6:
            return None
        if int(length) > MAX_MESSAGE_BYTES or "Transfer-Encoding" in self.headers:
            return None
        return self.rfile.read(int(length))

    def _answer(self, status: HTTPStatus, content: BaseModel | None) -> None:
        data = json.dumps({}) if content is None else content.model_dump_json()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data.encode())))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data.encode())
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: refusals and enrolments are logged where they are decided."""


class _Pace:
    """So many a second in the long run, with a reserve."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second, self._burst = per_second, burst
        self._left, self._at = burst, time.monotonic()
        self._lock = threading.Lock()

    def allows(self) -> bool:
        with self._lock:
            now = time.monotonic()
            self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
            self._at = now
            allowed = self._left >= 1
            self._left -= allowed
            return allowed


def _refusal(error: SmrfedError) -> Refusal:
    def text(value: object | None) -> str | None:
        return None if value is None else str(value)[:500]

    return Refusal(
        code=error.code, what=error.what[:500], found=text(error.found), remedy=text(error.remedy)
    )
