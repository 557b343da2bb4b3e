"""The web server of the local pages: who gets in, from where, and what can be sent to it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.errors import SmrfedError
from shared_model.local_page.access import SESSION_S, Access
from shared_model.local_page.answers import Answer, Question, json_answer, page_answer
from shared_model.local_page.background import Background
from shared_model.local_page.error_texts import error_text
from shared_model.local_page.server import PageServer
from shared_model.local_page.token_file import load_or_create_token

TOKEN = "t" * 43


def answers(question: Question) -> Answer | None:
    if question.path == "/":
        return page_answer("<p>the secret figure is 42</p>")
    if question.path == "/api/x":
        return json_answer({"figure": 42})
    if question.path == "/broken":
        raise RuntimeError("a path of this machine")
    return None


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer(0, TOKEN, answers, "test") as running:
        yield running


def ask(
    server: PageServer,
    path: str,
    method: str = "GET",
    body: str | None = None,
    **headers: str,
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def log_in(server: PageServer, token: str = TOKEN, **headers: str) -> tuple[int, dict[str, str]]:
    form = urlencode({"token": token})
    kind = {"Content_Type": "application/x-www-form-urlencoded"}
    status, found, _ = ask(server, "/login", "POST", form, **kind, **headers)
    return status, found


def cookie_of(server: PageServer) -> str:
    status, headers = log_in(server)
    assert status == 303
    return headers["Set-Cookie"].partition(";")[0]


def test_nothing_is_shown_before_the_login(server: PageServer) -> None:
    status, headers, body = ask(server, "/")
    assert (status, headers["Location"]) == (303, "/login")
    assert "42" not in body
    status, _, body = ask(server, "/api/x")
    assert status == 401
    assert "42" not in body
    assert ask(server, "/health")[2] == "ok\n"
    assert ask(server, "/login")[0] == 200


def test_the_token_gives_a_session_in_a_strict_cookie(server: PageServer) -> None:
    status, headers = log_in(server)
    assert (status, headers["Location"]) == (303, "/")
    for word in ("HttpOnly", "SameSite=Strict", "Path=/"):
        assert word in headers["Set-Cookie"]
    cookie = headers["Set-Cookie"].partition(";")[0]
    assert TOKEN not in cookie
    assert "42" in ask(server, "/", Cookie=cookie)[2]
    assert json.loads(ask(server, "/api/x", Cookie=cookie)[2]) == {"figure": 42}
    gone = ask(server, "/logout", "POST", "", Cookie=cookie)
    assert "Max-Age=0" in gone[1]["Set-Cookie"]
    assert ask(server, "/", Cookie=cookie)[0] == 303


def test_a_script_sends_the_token_itself(server: PageServer) -> None:
    assert ask(server, "/api/x", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert ask(server, "/api/x", Authorization="Bearer wrong")[0] == 401


def test_wrong_tokens_are_refused_and_slowed(server: PageServer) -> None:
    assert log_in(server, "wrong")[0] == 403
    status, headers = log_in(server)
    assert status == 429  # not even the right one is looked at
    assert int(headers["Retry-After"]) >= 1


def test_the_wait_grows_with_every_failure_and_ends() -> None:
    now = [0.0]
    access = Access(TOKEN, clock=lambda: now[0])
    waits = []
    for _ in range(9):
        assert access.login("wrong") == "wrong"
        waits.append(access.wait_s)
        assert access.login(TOKEN) == "wait"
        now[0] += access.wait_s
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert access.login(TOKEN) == "in"
    assert access.login("wrong") == "wrong"
    assert access.wait_s == 0.5


def test_a_session_outlives_a_restart_and_ends_in_time_or_with_the_token() -> None:
    now = [1e9]
    session = Access(TOKEN, wall=lambda: now[0]).session()
    restarted = Access(TOKEN, wall=lambda: now[0])
    assert restarted.admits(session)
    assert not Access("u" * 43, wall=lambda: now[0]).admits(session)
    now[0] += SESSION_S + 1
    assert not restarted.admits(session)


@given(st.text(max_size=80))
def test_nothing_else_is_a_session(text: str) -> None:
    access = Access(TOKEN)
    session = access.session()
    assert not access.admits(text)
    assert not access.admits(session[:-1] + ("0" if session[-1] != "0" else "1"))
    assert not access.admits("9" + session)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:18002", "127.0.0.1.evil.example"])
def test_another_name_for_loopback_gets_nothing(server: PageServer, host: str) -> None:
    cookie = cookie_of(server)
    status, _, body = ask(server, "/", Host=host, Cookie=cookie)
    assert status == 421
    assert "42" not in body
    assert log_in(server, Host=host)[0] == 421


def test_a_form_of_another_page_is_refused(server: PageServer) -> None:
    assert log_in(server, Origin="http://evil.example")[0] == 403
    assert log_in(server, Sec_Fetch_Site="cross-site")[0] == 403
    assert log_in(server, Origin=server.address.rstrip("/"))[0] == 303


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_written(server: PageServer, method: str) -> None:
    cookie = cookie_of(server)
    for path in ("/", "/api/x"):
        status, headers, body = ask(server, path, method, "x=1", Cookie=cookie)
        assert status in (405, 501)
        assert "42" not in body
        assert "Content-Security-Policy" in headers


def test_every_answer_is_kept_to_itself(server: PageServer) -> None:
    cookie = cookie_of(server)
    for path in ("/", "/login", "/nothing", "/assets/style.css", "/assets/live.js", "/broken"):
        _, headers, body = ask(server, path, Cookie=cookie)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "http://" not in body.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in body
    assert ask(server, "/broken", Cookie=cookie)[0] == 500
    assert "machine" not in ask(server, "/broken", Cookie=cookie)[2]


def test_the_same_page_is_not_sent_twice(server: PageServer) -> None:
    cookie = cookie_of(server)
    _, headers, _ = ask(server, "/", Cookie=cookie)
    status, _, body = ask(server, "/", Cookie=cookie, If_None_Match=headers["ETag"])
    assert (status, body) == (304, "")


@pytest.mark.parametrize(
    ("to", "where"),
    [
        ("/runs/a?upto=3", "/runs/a?upto=3"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\r\nX: y", "/"),
    ],
)
def test_the_login_leads_back_to_pages_of_ours_only(
    server: PageServer, to: str, where: str
) -> None:
    form = urlencode({"token": TOKEN, "to": to})
    _, headers, _ = ask(server, "/login", "POST", form)
    assert headers["Location"] == where


def test_a_large_form_and_odd_lengths_are_refused(server: PageServer) -> None:
    assert ask(server, "/login", "POST", "x" * 5000)[0] == 413
    assert ask(server, "/login", "POST", None, Content_Length="-1")[0] == 413
    assert ask(server, "/login", "POST", None, Content_Length="many")[0] == 413


def test_the_server_listens_on_loopback_alone_and_says_when_it_cannot(server: PageServer) -> None:
    assert server._server.server_address[0] == "127.0.0.1"
    with pytest.raises(SmrfedError, match="SMR-E575"):
        PageServer(server.port, TOKEN, answers, "test")


def test_the_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    token, new = load_or_create_token(tmp_path / "token")
    assert new
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert load_or_create_token(tmp_path / "token") == (token, False)
    assert load_or_create_token(tmp_path / "other")[0] != token


def test_a_token_that_others_can_read_or_that_is_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    load_or_create_token(path)
    path.chmod(0o640)
    with pytest.raises(SmrfedError, match="SMR-E574"):
        load_or_create_token(path)
    path.chmod(0o600)
    path.write_text("short\n")
    with pytest.raises(SmrfedError, match="SMR-E574"):
        load_or_create_token(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(SmrfedError, match="SMR-E574"):
        load_or_create_token(link)


def test_more_connections_than_allowed_are_closed_and_the_others_served(
    server: PageServer,
) -> None:
    import socket

    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
    for one in idle:
        one.close()
    assert ask(server, "/health")[2] == "ok\n"


def test_a_slow_figure_is_computed_once_and_then_known() -> None:
    later, gate, made = Background(), threading.Event(), []

    def compute() -> int:
        gate.wait(30)
        made.append(1)
        return 7

    assert later.get("a", compute) is None
    assert later.get("a", compute) is None
    gate.set()
    assert later.settle(30)
    assert later.get("a", compute) == 7
    assert later.get("bad", lambda: 1 // 0) is None
    assert later.settle(30)
    assert later.get("bad", compute) is None
    assert made == [1]


def test_error_pages_are_escaped_text() -> None:
    text = error_text("SMR-E520")
    assert text is not None
    assert "<h2>What happened</h2>" in text
    assert error_text("SMR-E000") is None
    assert error_text("../../README") is None
