"""The dashboard in a real browser: login, live update, a restart of the server, small windows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headless_browser import Browser, require_chromium
from page_checks import FAINT_TEXT, OVERFLOW, UNNAMED, check_page, log_in
from test_dashboard import LOCAL, a_run, dashboard, drive, page, recorded
from toy_federation import ToySite, ToyTransport, make_plan, make_run, read

from server.dashboard.app import PRODUCT
from server.rounds.transport import Failure
from shared_model.local_page.server import PageServer

TOKEN = "b" * 43


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require_chromium()
    with Browser() as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_went_wrong(browser: Browser) -> Iterator[None]:
    browser.errors.clear()
    browser.requests.clear()
    yield
    browser.evaluate("1")  # what is still to come
    assert browser.errors == []


def test_wrong_token_then_the_right_one(browser: Browser, tmp_path: Path) -> None:
    a_run(tmp_path)
    with PageServer(0, TOKEN, dashboard(tmp_path), PRODUCT) as server:
        browser.open(server.address)
        assert browser.evaluate("location.pathname") == "/login"
        assert browser.evaluate("document.activeElement.id") == "token"
        browser.evaluate("document.getElementById('token').value = 'wrong';")
        browser.evaluate("document.getElementById('login').requestSubmit()")
        browser.wait("!!document.querySelector('[role=alert]')")
        assert "not the token" in browser.evaluate("document.body.innerText")
        # The browser tells of the 403; nothing else may be there.
        errors = [error for error in browser.errors if "403" not in error]
        assert errors == []
        browser.errors.clear()
        threading.Event().wait(0.6)
        log_in(browser, server.address, TOKEN)
        assert "study" in browser.evaluate("document.body.innerText")
        browser.evaluate("document.querySelector('form[action=\"/logout\"] button').click()")
        browser.wait("location.pathname === '/login' && document.readyState === 'complete'")
        browser.open(server.address)
        assert browser.evaluate("location.pathname") == "/login"
        assert all(request.startswith(server.address) for request in browser.requests)


def test_a_run_is_followed_live_and_through_a_restart_of_the_server(
    browser: Browser, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "runs" / "study", make_plan("a", "b", **LOCAL))
    gates = {number: threading.Event() for number in range(1, 5)}

    class Waiting(ToyTransport):
        def poll(self, handle: str) -> Any:
            site, message = self._waiting[handle]
            if site.name == "b" and not gates[read(message).round].wait(240):
                return Failure("the test waited too long")
            return super().poll(handle)

    driving = threading.Thread(target=drive, args=(run, Waiting("a", "b")), daemon=True)
    with PageServer(0, TOKEN, dashboard(tmp_path), PRODUCT) as server:
        browser.window(1200, 800)
        log_in(browser, server.address, TOKEN)
        browser.open(f"{server.address}runs/study")
        browser.evaluate("window.mark = 'same page'")
        assert "waiting to start" in _text(browser)
        driving.start()
        browser.wait("document.body.innerText.includes('1 of 2 hospitals have answered (a)')")
        gates[1].set()
        browser.wait("document.body.innerText.includes('1 of 4 rounds')")
        browser.evaluate("document.querySelector('#events pre').focus()")
        gates[2].set()
        browser.wait("document.body.innerText.includes('2 of 4 rounds')")
        assert browser.evaluate("document.activeElement.tagName") == "PRE"
        assert "expected end" in _text(browser)
        port = server.port
    browser.wait("document.getElementById('fresh').innerText.startsWith('not up to date since')")
    assert browser.evaluate("document.getElementById('fresh-word').getAttribute('role')") == (
        "status"
    )
    gates[3].set()
    with PageServer(port, TOKEN, dashboard(tmp_path), PRODUCT):
        browser.wait("document.body.innerText.includes('3 of 4 rounds')")
        browser.wait("document.getElementById('fresh').innerText.startsWith('up to date')")
        gates[4].set()
        browser.wait("document.body.innerText.includes('finished')")
        assert browser.evaluate("window.mark") == "same page"
        driving.join(60)
        browser.leave()
    lost = [error for error in browser.errors if "ERR_CONNECTION_REFUSED" not in error]
    assert lost == []
    browser.errors.clear()


def _text(browser: Browser) -> str:
    return str(browser.evaluate("document.body.innerText"))


def test_every_page_is_narrow_readable_and_named(browser: Browser, tmp_path: Path) -> None:
    def silent(site: ToySite, message: Any, reply: Any) -> Failure:
        return Failure("the door is closed " * 10)

    plan = make_plan("a", "b", "a-hospital-with-quite-long-name", federation={"min_sites": 1})
    run = make_run(tmp_path / "runs" / ("a-run-of-a-long-name-" * 4), plan)
    drive(run, ToyTransport(*plan.weights, faults={"b": silent}))
    recorded(tmp_path / "runs" / "long", make_plan("a", "b", training={"rounds": 150}), 120)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "superlink.log").write_text("a long line " * 30 + "\n")
    board = dashboard(tmp_path)
    page(board, "/sites")
    with PageServer(0, TOKEN, board, PRODUCT) as server:
        browser.window(360, 800)
        browser.open(f"{server.address}login")
        assert browser.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")
        log_in(browser, server.address, TOKEN)
        for path in ("", f"runs/{run.path.name}", "runs/long?upto=40", "sites", "logs",
                     "errors/SMR-E504"):  # fmt: skip
            check_page(browser, server.address + path)
        browser.window(360, 800)
        browser.open(server.address)
        # The checks themselves can fail.
        browser.evaluate("document.querySelector('h1').style.color = '#ccc'")
        assert browser.evaluate(FAINT_TEXT)
        browser.evaluate("document.querySelector('h1').style.width = '900px'")
        assert browser.evaluate(OVERFLOW) > 0
        browser.evaluate("document.querySelector('button').textContent = ''")
        assert browser.evaluate(UNNAMED)
        browser.open(f"{server.address}sites")
        browser.call(
            "Input.dispatchKeyEvent", type="rawKeyDown", key="Tab", windowsVirtualKeyCode=9
        )
        assert "Skip" in browser.evaluate("document.activeElement.textContent")
