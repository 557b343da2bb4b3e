"""Whether a coordinator answers inside TLS, and whether large replies get through."""

from __future__ import annotations

import contextlib
import http.client
import os
import time

from client.preflight.network.way import Way
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Note, NotLookedAt

#: Flower cuts arrays in chunks of 5 MiB: with its envelope a request stays below this.
LARGE_BYTES = 6 << 20
HEALTH = "/health"
#: Flower's own: a proxy may look at it.
MEDIA_TYPE = "application/protobuf"
# Where chunks go to. Without a node's signature the coordinator refuses the request itself.
_CHUNKS = "/v1/fleet/push-object"
_SLOW_S = 10.0
_ANSWER_S = 20.0


class Exchange:
    """One HTTP request over the way, and what came back."""

    def __init__(self, way: Way, method: str, path: str, body: bytes = b"") -> None:
        self.status = 0
        self.date: str | None = None
        self.problem = ""
        connection = http.client.HTTPConnection(way.host, way.port, timeout=_ANSWER_S)
        connection.sock = way.open_tls(way.trusting())
        connection.sock.settimeout(_ANSWER_S)
        self.began = time.time()
        try:
            headers = {"Content-Type": MEDIA_TYPE} if body else {}
            try:
                connection.request(method, path, body or None, headers)
            except (BrokenPipeError, ConnectionResetError) as error:
                # Who refuses by the announced length answers early, and may close before the end.
                self.problem = f"{type(error).__name__} while the body was sent"
            answer = connection.getresponse()
            self.status, self.date = answer.status, answer.getheader("Date")
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer.read(1 << 16)
        except (OSError, http.client.HTTPException) as error:
            self.problem = self.problem or f"{type(error).__name__}: {error}"[:200]
        finally:
            self.ended = time.time()
            connection.close()


def check_answer(way: Way) -> str:
    """Ask for the coordinator's health; raises SMR-E438 when what answers is none."""
    if not way.secured:
        raise NotLookedAt("no TLS connection")
    found = Exchange(way, "GET", HEALTH)
    if found.status != 200:
        raise SmrfedError(
            "SMR-E438",
            f"what answers at {way.address} is not a coordinator that is at work",
            expected=f"HTTP 200 to {HEALTH}",
            found=f"HTTP {found.status}" if found.status else found.problem,
            remedy="ask the coordinator whether smrfed-coordinator check is in order there; 502 to "
            "504 come from its reverse proxy while the SuperLink is away",
        )
    way.answered = True
    return f"the coordinator answers, {1000 * (found.ended - found.began):.0f} ms"


def check_large_body(way: Way) -> str:
    """Send 6 MB where replies go, unsigned: the coordinator must refuse it like an empty one.

    Anything on the way that refuses bodies by their size (nginx does above 1 MB unless it is told
    otherwise) would lose replies without a word to the coordinator. Raises SMR-E436.
    """
    if not way.answered:
        raise NotLookedAt("no coordinator answers")
    small = Exchange(way, "POST", _CHUNKS, b"?")
    large = Exchange(way, "POST", _CHUNKS, os.urandom(LARGE_BYTES))
    if large.status != small.status or not large.status:
        raise SmrfedError(
            "SMR-E436",
            "large messages do not get through to the coordinator, so replies would be lost",
            expected=f"the same answer to {LARGE_BYTES >> 20} MiB as to one byte (HTTP "
            f"{small.status or 'error'})",
            found=f"HTTP {large.status}" if large.status else large.problem,
            remedy="raise the largest body of the proxy or firewall on the way to 16 MB; if there "
            "is none, tell the coordinator: client_max_body_size of its nginx",
        )
    took = max(large.ended - large.began, 1e-3)
    rate = 8e-6 * LARGE_BYTES / took
    text = f"{LARGE_BYTES >> 20} MiB got through in {took:.1f} s"
    if took > _SLOW_S:
        return Note(f"{text}: {rate:.1f} Mbit/s upstream; replies will take their time")
    return f"{text}, {rate:.0f} Mbit/s or more"
