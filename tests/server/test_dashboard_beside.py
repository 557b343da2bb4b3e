"""The dashboard beside the runs: hospitals, the SuperLink, log lines, the command itself."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from test_dashboard import a_run, dashboard, facts, page

from server.dashboard.connected import ConnectionWatch
from server.dashboard.log_files import log_files, redacted
from server.dashboard.registered import registered_sites


def test_sites_are_known_from_registry_connection_and_runs(tmp_path: Path) -> None:
    from server.enrolment.registry import Invitation, Registry

    a_run(tmp_path)
    registry = Registry(tmp_path / "registry.sqlite")
    registry.invite(Invitation("0" * 64, "z", 2**40, None, None, False, None, None, False))
    registry.enrol("a", "ecdsa", 7, "ab" * 32, 1)
    before = (tmp_path / "registry.sqlite").read_bytes()
    board = dashboard(tmp_path)
    for _ in range(100):
        found = facts(board, "/api/sites")
        if found["connected_problem"] is None:
            break
        threading.Event().wait(0.1)
    sites = {site["name"]: site for site in found["sites"]}
    assert {name: site["connected"] for name, site in sites.items()} == {
        "a": True,
        "b": False,
        "z": False,
    }
    assert sites["a"]["registered"]["state"] == "enrolled"
    assert sites["z"]["registered"]["state"] == "invited"
    assert sites["b"]["registered"] is None
    assert sites["a"]["last_seen"]
    assert sites["a"]["runs"] == ["study"]
    assert (tmp_path / "registry.sqlite").read_bytes() == before
    (tmp_path / "registry.sqlite").write_bytes(b"no database")
    assert registered_sites(tmp_path / "registry.sqlite")[1] is not None
    page(board, "/sites")


def test_a_superlink_that_hangs_is_unknown_and_delays_nobody(tmp_path: Path) -> None:
    now, gate = [0.0], threading.Event()

    def hang() -> frozenset[str]:
        gate.wait(60)
        return frozenset({"a"})

    watch = ConnectionWatch(hang, clock=lambda: now[0])
    assert watch.now().sites is None
    now[0] = 6.0
    assert watch.now().why == "the SuperLink does not answer"
    gate.set()
    for _ in range(100):
        if watch.now().sites == {"a"}:
            return
        threading.Event().wait(0.1)
    raise AssertionError("never answered")


def test_log_lines_hide_secrets_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside\n")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "link.log").symlink_to(tmp_path / "secret")
    (tmp_path / "logs" / "a.log").write_text(
        "INFO started\nauth token=abcdefghijklmnop\n\x1b[31mred\nhalf a li"
    )
    (log,) = log_files(tmp_path / "logs")
    assert log.lines == ("INFO started", "auth token=[redacted]", " [31mred")
    for line in (
        "Authorization: Bearer abcdefghijklmnopqrst",
        '"secret": "abcdefghijklmnop"',
        "-----BEGIN PRIVATE KEY-----abcdefghijklmnop",
        "invited north: smrfed1-abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
        "through http://user:abcdefghijklmnop@proxy:3128",
        "x" * 495 + " token=abcdefghijklmnop",
    ):
        assert "abcdefgh" not in redacted(line)
    assert "a.log" in page(dashboard(tmp_path), "/logs")
    assert "outside" not in page(dashboard(tmp_path), "/logs")


def test_the_command_shows_the_token_once_and_to_a_person_only(tmp_path: Path) -> None:
    """On a terminal the address to log in with is shown; a supervisor's log never holds it."""
    a_run(tmp_path)
    assert "#token=" not in _served(tmp_path, terminal=False)
    token = (tmp_path / "dashboard.token").read_text().strip()
    assert (tmp_path / "dashboard.token").stat().st_mode & 0o777 == 0o600
    assert token not in _served(tmp_path, terminal=True)
    (tmp_path / "dashboard.token").unlink()
    shown = _served(tmp_path, terminal=True)
    assert f"#token={(tmp_path / 'dashboard.token').read_text().strip()}" in shown


def _served(home: Path, *, terminal: bool) -> str:
    """What the command prints until it serves; it is ended then."""
    ours, theirs = os.openpty() if terminal else os.pipe()
    command = [sys.executable, "-m", "server.cli", "dashboard", "--home", str(home), "--port", "0"]
    process = subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "300"},
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    said = b""
    try:
        while b"the token is in" not in said:
            piece = os.read(ours, 4096)
            assert piece, process.stderr.read() if process.stderr else ""
            said += piece
    finally:
        process.terminate()
        assert process.wait(60) == 0
        os.close(ours)
        assert process.stderr is not None
        process.stderr.close()
    return said.decode()
