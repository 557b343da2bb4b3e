"""``smrfed-coordinator check`` on a real folder, with real TLS servers in the services' place."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from toy_federation import make_plan, make_run
from typer.testing import CliRunner

from server.cli import app
from server.config import CoordinatorConfig, CoordinatorFolder
from server.enrolment.authority import create_authority
from server.enrolment.registry import Registry
from shared_model.errors import SmrfedError
from shared_model.protocol.keys import load_or_create_signing_key
from simulations.deployed.processes import free_ports

PROXY = {"/health": 200, "/v1/fleet/pull-messages": 405}
BARE = PROXY | {
    "/v1/control/list-runs": 405,
    "/v1/control/register-node": 405,
    "/v1/runtime/acquire-task": 405,
    "/docs": 200,
    "/openapi.json": 200,
}


@contextlib.contextmanager
def answering(
    port: int, statuses: dict[str, int], home: CoordinatorFolder | None, rest: int = 403
) -> Iterator[None]:
    """A server on loopback that answers GET by its path; with TLS where ``home`` is given."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.get(self.path, rest))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    if home is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(home.certificate, home.certificate_key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorFolder:
    folder = CoordinatorFolder(tmp_path / "coordinator")
    folder.path.mkdir(mode=0o700)
    superlink, enrolment, public = free_ports(3)
    folder.write_config(
        CoordinatorConfig(
            name="test",
            public_address=f"127.0.0.1:{public}",
            superlink_port=superlink,
            enrolment_port=enrolment,
        )
    )
    create_authority(folder)
    load_or_create_signing_key(folder.signing_key)
    Registry(folder.registry)
    return folder


def look(home: CoordinatorFolder, *options: str) -> dict[str, tuple[str, str | None, str]]:
    result = CliRunner().invoke(app, ["check", "--home", str(home.path), "--json", *options])
    report = json.loads(result.stdout)
    bad = any(check["level"] == "problem" for check in report["checks"])
    assert report["ready"] != bad
    if bad:
        assert isinstance(result.exception, SmrfedError)
        assert result.exception.code == "SMR-E700"
    else:
        assert result.exit_code == 0, result.output
    return {c["what"]: (c["level"], c["code"], c["found"]) for c in report["checks"]}


def test_a_coordinator_in_order(home: CoordinatorFolder) -> None:
    make_run(home.runs / "study", make_plan("a", "b"))
    config = home.config
    with (
        answering(config.superlink_port, {"/health": 200}, home),
        answering(config.enrolment_port, {}, None),
        answering(int(config.public_address.rpartition(":")[2]), PROXY, home),
    ):
        found = look(home, "--public", config.public_address)
    assert {level for level, _, _ in found.values()} <= {"ok", "note"}, found
    assert found["runs"][2].startswith("1 runs")
    assert "paths are closed" in found["public address"][2]


def test_a_superlink_that_is_open_to_everybody_is_told_path_by_path(
    home: CoordinatorFolder,
) -> None:
    public = home.config.public_address
    with answering(int(public.rpartition(":")[2]), BARE, home, rest=404):
        result = CliRunner().invoke(app, ["check", "--home", str(home.path), "--public", public])
    text = " ".join(result.stdout.split())
    assert "SMR-E705" in text
    for path in ("/v1/control/list-runs", "/v1/runtime/acquire-task", "/docs", "/openapi.json"):
        assert f"{path} answers" in text
    assert "/smrfed/enrol/ answers 404" in text


def test_nothing_runs(home: CoordinatorFolder) -> None:
    found = look(home)
    assert found["SuperLink"][1] == "SMR-E704"
    assert found["enrolment"][0] == "note"
    assert found["public address"][0] == "skipped"
    assert found["certificate"][0] == "ok"


def test_what_is_damaged_open_or_missing(home: CoordinatorFolder) -> None:
    home.signing_key.chmod(0o644)
    home.certificate.write_text("no certificate")
    home.registry.write_bytes(b"no database" * 100)
    home.registry.chmod(0o600)
    run = make_run(home.runs / "study", make_plan("a", "b"))
    (run.path / "initial.safetensors").write_bytes(b"other")
    found = look(home)
    codes = {what: code for what, (_, code, _) in found.items()}
    assert codes["file modes"] == "SMR-E702"
    assert codes["certificate"] == "SMR-E701"
    assert codes["registry"] == "SMR-E592"
    assert codes["runs"] == "SMR-E532"
    assert codes["disk"] is None


def test_without_a_configuration(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", "--home", str(tmp_path)])
    assert isinstance(result.exception, SmrfedError)
    assert result.exception.code == "SMR-E590"
