"""The commands of both sides as their users type them, against the service as a real process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from client.cli import app as site_app
from client.config import SiteConfig
from server.config import CoordinatorFolder
from server.enrolment.commands import add_to
from server.enrolment.registry import Registry
from shared_model.enrolment.token import JoinToken
from shared_model.errors import SmrfedError
from simulations.deployed.environment import command
from simulations.deployed.processes import free_ports

_PATIENCE_S = 120.0
coordinator_app = typer.Typer()
add_to(coordinator_app)


def run(app: typer.Typer, *arguments: object, code: str | None = None) -> Any:
    """What a command printed, as JSON; or with ``code`` the number of its error."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if code is not None:
        assert isinstance(done.exception, SmrfedError), done.output
        assert done.exception.code == code, done.exception.render()
        return None
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout) if "--json" in arguments else done.stdout


@contextmanager
def service(home: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    log = home / "logs" / "enrolment.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [command("smrfed-coordinator"), "enrolment-service", "--tls", "--home", str(home)],
            stdout=out,
            stderr=out,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    port, superlink = free_ports(2)
    path = tmp_path / "home"
    run(coordinator_app, "init", "--address", f"127.0.0.1:{port}", "--home", path)
    folder = CoordinatorFolder(path)
    ports = {"enrolment_port": port, "superlink_port": superlink}
    folder.write_config(folder.config.model_copy(update=ports))
    return path


def test_init_makes_what_is_missing_and_leaves_the_rest(home: Path) -> None:
    shown = run(coordinator_app, "init", "--home", home, "--json")
    before = {p: p.read_bytes() for p in home.rglob("*") if p.is_file() and "sqlite" not in p.name}
    (home / "pki" / "server.crt").unlink()
    again = run(coordinator_app, "init", "--home", home, "--json")
    assert again == shown
    assert all(p.read_bytes() == content for p, content in before.items() if p.name != "server.crt")
    run(coordinator_app, "init", "--home", home, "--address", "else.example:1", code="SMR-E590")


def test_init_needs_an_address(tmp_path: Path) -> None:
    run(coordinator_app, "init", "--home", tmp_path / "h", code="SMR-E590")
    run(coordinator_app, "init", "--home", tmp_path / "h", "--address", "no port", code="SMR-E590")


def test_an_invitation_says_what_the_hospital_is_told(home: Path) -> None:
    shown = run(coordinator_app, "invite", "north", "--home", home, "--json")
    token = JoinToken.decode(shown["token"])
    assert (token.site, token.authority_sha256) == ("north", shown["authority"])
    (site,) = run(coordinator_app, "sites", "--home", home, "--json")
    assert (site["site"], site["state"], site["signing_key"]) == ("north", "invited", None)
    assert shown["token"] not in run(coordinator_app, "sites", "--history", "--home", home)


def test_a_join_without_a_superlink_is_told_and_may_be_repeated(home: Path, tmp_path: Path) -> None:

    port = CoordinatorFolder(home).config.enrolment_port
    token = run(coordinator_app, "invite", "north", "--home", home, "--json")["token"]
    site = tmp_path / "north"
    run(site_app, "init", site, "--name", "north")
    config = site / "site.toml"
    with service(home, port) as process:
        run(site_app, "join", token, "-c", config, code="SMR-E419")
        run(site_app, "join", token, "-c", config, "--yes", code="SMR-E464")
        (known,) = Registry(home / "registry.sqlite").sites()
        assert (known.state, known.node_key) == ("invited", None)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    log = (home / "logs" / "enrolment.log").read_text()
    assert "SMR-E596" in log
    assert JoinToken.decode(token).secret not in log
    assert not SiteConfig.load(config).connection.file.exists()


def test_the_key_change_by_commands(home: Path) -> None:
    run(coordinator_app, "rotate", "--finish", "--home", home, code="SMR-E598")
    first = run(coordinator_app, "rotate", "--home", home, "--json")
    assert first["next_key"] == run(coordinator_app, "rotate", "--home", home, "--json")["next_key"]
    done = run(coordinator_app, "rotate", "--finish", "--home", home, "--json")
    assert done["signing_key"] == first["next_key"] != first["signing_key"]
    run(coordinator_app, "rotate", "--finish", "--home", home, code="SMR-E598")
    assert (
        run(coordinator_app, "init", "--home", home, "--json")["signing_key"] == (first["next_key"])
    )


def test_renewing_by_command(home: Path) -> None:
    before = (home / "pki" / "server.crt").read_bytes()
    assert "not due" in run(coordinator_app, "renew", "--home", home)
    assert "reload nginx" in run(coordinator_app, "renew", "--force", "--home", home)
    assert (home / "pki" / "server.crt").read_bytes() != before


def test_who_is_unknown_cannot_be_revoked(home: Path) -> None:
    run(coordinator_app, "revoke", "nobody", "--home", home, code="SMR-E593")


def test_commands_of_a_hospital_that_has_not_joined(tmp_path: Path) -> None:
    run(site_app, "init", tmp_path / "s", "--name", "north")
    config = tmp_path / "s" / "site.toml"
    for name in ("renew", "rotate-keys"):
        run(site_app, name, "-c", config, code="SMR-E460")
    run(site_app, "allow-courier", "ab" * 32, "-c", config, code="SMR-E460")
    run(site_app, "join", "smrfed1-nonsense", "-c", config, code="SMR-E461")
    pasted = CliRunner().invoke(site_app, ["join", "-c", str(config)], input="smrfed1-\nnonsense\n")
    assert isinstance(pasted.exception, SmrfedError)
    assert pasted.exception.code == "SMR-E461"
