"""What a local page answers, and the headers that keep it to itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

HTML = "text/html; charset=utf-8"
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

#: Scripts and styles from files of ours only, nothing from elsewhere, no frame around it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # With no-referrer a browser sends the login form with Origin "null".
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Answer:
    """One answer; ``policy`` is its Content-Security-Policy."""

    body: bytes
    kind: str = HTML
    status: int = 200
    policy: str = POLICY
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        """ETag: the same for the same bytes."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


@dataclass(frozen=True)
class Question:
    """What was asked: a decoded path, and the first value of every parameter."""

    path: str
    parameters: Mapping[str, str]


#: Gives the answer to a question; None where there is nothing.
Answers = Callable[[Question], Answer | None]


def page_answer(text: str, status: int = 200) -> Answer:
    """A page."""
    return Answer(text.encode(), status=status)


def json_answer(data: Any, status: int = 200) -> Answer:
    """JSON, always finite."""
    return Answer(json.dumps(data, allow_nan=False, indent=1).encode(), JSON, status)


def text_answer(text: str, status: int = 200) -> Answer:
    """Plain text."""
    return Answer(text.encode(), TEXT, status)
