"""Who may look at a local page: the token, a session made from it, and slow failures."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from typing import Literal

SESSION_S = 12 * 3600
_LONGEST_WAIT_S = 30.0
_REVOKED = 4096

Login = Literal["in", "wrong", "wait"]


class Access:
    """Checks tokens and sessions in constant time.

    A session is a random number and its end, signed with a key made from the token: it outlives a
    restart of the page, and ends for everybody when the token is replaced. After the n-th failure
    in a row nobody can try for ``min(2**(n - 2), 30)`` seconds, whatever they try.

    Args:
        token: the secret.
        wall, clock: seconds since 1970, and monotonic; tests replace them.
    """

    def __init__(
        self,
        token: str,
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token = _hashed(token)
        self._key = hmac.digest(token.encode(), b"smrfed local page session 1", "sha256")
        self._wall = wall
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_until = 0.0
        self._revoked: dict[str, int] = {}

    def login(self, token: str) -> Login:
        """``in`` for the token; ``wrong``; or ``wait``, when it was not even looked at."""
        with self._lock:
            if self._clock() < self._closed_until:
                return "wait"
            if hmac.compare_digest(_hashed(token), self._token):
                self._failures = 0
                return "in"
            self._failures += 1
            wait = 2.0 ** min(self._failures - 2, 10)
            self._closed_until = self._clock() + min(wait, _LONGEST_WAIT_S)
            return "wrong"

    @property
    def wait_s(self) -> float:
        """Seconds until the next try is looked at."""
        with self._lock:
            return max(0.0, self._closed_until - self._clock())

    def session(self) -> str:
        """A new session, good for :data:`SESSION_S` seconds."""
        said = f"{int(self._wall()) + SESSION_S}.{secrets.token_urlsafe(16)}"
        return f"{said}.{self._signed(said)}"

    def admits(self, session: str) -> bool:
        """Whether this is a session of this token that has not ended."""
        said, _, signature = session.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signed(said).encode()):
            return False
        with self._lock:
            return int(said.partition(".")[0]) > self._wall() and session not in self._revoked

    def end(self, session: str) -> None:
        """Log out: forgotten by the next restart, after which the session lives on to its end."""
        if not self.admits(session):
            return
        with self._lock:
            now = self._wall()
            self._revoked = {s: end for s, end in self._revoked.items() if end > now}
            while len(self._revoked) >= _REVOKED:
                del self._revoked[next(iter(self._revoked))]
            self._revoked[session] = int(session.partition(".")[0])

    def _signed(self, said: str) -> str:
        return hmac.new(self._key, said.encode(), "sha256").hexdigest()


def _hashed(token: str) -> bytes:
    # Of one length, whatever was typed.
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
