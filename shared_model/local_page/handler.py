"""One request: host, session, then the answer; nothing can be written but a login."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from shared_model.local_page.access import SESSION_S, Access
from shared_model.local_page.answers import (
    HEADERS,
    POLICY,
    Answer,
    Answers,
    Question,
    json_answer,
    page_answer,
    text_answer,
)
from shared_model.local_page.asset_files import asset
from shared_model.local_page.shell import login_page, message_page

_LARGEST_FORM = 4096
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?")
# A page of ours to go back to after the login; never another host.
_OWN_PAGE = re.compile(r"/(?!/)[A-Za-z0-9._~%/?=&-]*")

_log = logging.getLogger(__name__)


class Handler(BaseHTTPRequestHandler):
    """Made anew for every connection; :func:`handler_of` gives it what it serves."""

    server_version = "smrfed"
    sys_version = ""
    timeout = 20
    access: Access
    answers: Answers
    title: str
    cookie: str

    def do_GET(self) -> None:
        """Look."""
        self._reply(self._answer)

    def do_HEAD(self) -> None:
        """The same without the body."""
        self._reply(self._answer)

    def do_POST(self) -> None:
        """Log in or out."""
        self._reply(self._posted)

    def _answer(self) -> Answer:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        if path == "/health":
            return text_answer("ok\n")
        if path == "/favicon.ico":
            return asset("icon.svg") or self._nothing(path)
        if path.startswith("/assets/"):
            return asset(path.removeprefix("/assets/")) or self._nothing(path)
        if path == "/login":
            return page_answer(login_page(self.title, "", _first(parts.query).get("to", "/")))
        if (refused := self._refused(path)) is not None:
            return refused
        answer = self.answers(Question(path, _first(parts.query)))
        return answer or self._nothing(path)

    def _refused(self, path: str) -> Answer | None:
        """Why somebody may not look at this; None where they may."""
        session = self._session()
        if session is not None and self.access.admits(session):
            return None
        given = self.headers.get("Authorization", "")
        if given.startswith("Bearer "):
            said = self.access.login(given.removeprefix("Bearer ").strip())
            if said == "in":
                return None
            return self._too_soon() if said == "wait" else _unauthorised()
        if path.startswith("/api/") or self.headers.get("X-Smrfed-Live"):
            return _unauthorised()
        to = self.path if _OWN_PAGE.fullmatch(self.path) else "/"
        where = "/login" if to == "/" else f"/login?to={to.replace('&', '%26')}"
        return Answer(b"", status=303, headers={"Location": where})

    def _posted(self) -> Answer:
        # An unread body would be taken for the next request.
        self.close_connection = True
        if not self._same_origin():
            return text_answer("the form was sent from another page\n", 403)
        path = urlsplit(self.path).path
        if path == "/logout":
            self.access.end(self._session() or "")
            gone = f"{self.cookie}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
            return Answer(b"", status=303, headers={"Location": "/login", "Set-Cookie": gone})
        if path != "/login":
            return Answer(b"nothing can be written here\n", status=405, headers={"Allow": "GET"})
        form = self._form()
        if form is None:
            return text_answer("a login form is small\n", 413)
        to = form.get("to", "/")
        said = self.access.login(form.get("token", ""))
        if said == "in":
            made = f"{self.cookie}={self.access.session()}; Path=/; HttpOnly; SameSite=Strict"
            where = to if _OWN_PAGE.fullmatch(to) else "/"
            return Answer(
                b"",
                status=303,
                headers={"Location": where, "Set-Cookie": f"{made}; Max-Age={SESSION_S}"},
            )
        if said == "wait":
            return self._too_soon()
        _log.warning("a login to %s with a wrong token", self.title)
        problem = "That is not the token of this page."
        return page_answer(login_page(self.title, problem, to), 403)

    def _form(self) -> dict[str, str] | None:
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            return None
        if not 0 <= length <= _LARGEST_FORM:
            return None
        return _first(self.rfile.read(length).decode("utf-8", errors="replace"))

    def _too_soon(self) -> Answer:
        seconds = max(1, math.ceil(self.access.wait_s))
        told = f"Too many wrong tokens. Try again in {seconds} s."
        made = page_answer(login_page(self.title, told, "/"), 429)
        return Answer(made.body, status=429, headers={"Retry-After": str(seconds)})

    def _same_origin(self) -> bool:
        origin = self.headers.get("Origin")
        if self.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return False
        return origin is None or urlsplit(origin).netloc == self.headers.get("Host")

    def _session(self) -> str | None:
        try:
            found = SimpleCookie(self.headers.get("Cookie", "")).get(self.cookie)
        except CookieError:
            return None
        return None if found is None else found.value

    def _nothing(self, path: str) -> Answer:
        if path.startswith("/api/"):
            return json_answer({"error": "there is nothing here"}, 404)
        return page_answer(message_page(self.title, "There is nothing here.", "/"), 404)

    def _reply(self, make: Any) -> None:
        # Another name for this address is a page of somebody else's, by DNS rebinding.
        if not _LOOPBACK.fullmatch(self.headers.get("Host", "")):
            self.close_connection = True
            self._send(text_answer("ask for 127.0.0.1 or localhost\n", 421))
            return
        try:
            answer = make()
        except Exception:
            _log.exception("no answer to %s", urlsplit(self.path).path)
            answer = text_answer("something went wrong here; the log tells\n", 500)
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        status, body = answer.status, answer.body
        if status == 200 and self.headers.get("If-None-Match") == answer.tag:
            status, body = 304, b""
        self.send_response(status)
        for name, value in {
            **HEADERS,
            "Content-Security-Policy": answer.policy,
            "Content-Type": answer.kind,
            "ETag": answer.tag,
            **answer.headers,
        }.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is no request of ours: a number, and not a word of what was sent."""
        self.send_response(code)
        for name, value in {**HEADERS, "Content-Security-Policy": POLICY}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing on the terminal; a request's text may be anything."""
        _log.debug("request answered with %s", args[1] if len(args) > 1 else "?")


def handler_of(access: Access, answers: Answers, title: str, cookie: str) -> type[Handler]:
    """The handler of one page."""
    given: Mapping[str, object] = {
        "access": access,
        "answers": staticmethod(answers),
        "title": title,
        "cookie": cookie,
    }
    return type("PageHandler", (Handler,), dict(given))


def _unauthorised() -> Answer:
    made = json_answer({"error": "log in first, or send the token: Authorization: Bearer TOKEN"})
    return Answer(made.body, made.kind, 401)


def _first(query: str) -> dict[str, str]:
    try:
        return {name: values[0] for name, values in parse_qs(query, max_num_fields=20).items()}
    except ValueError:
        return {}
