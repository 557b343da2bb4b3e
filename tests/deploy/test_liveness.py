"""The health checks of the containers say yes and no for the right reasons."""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from client.config import SiteConfig
from client.liveness import agent_problem, network_problem
from server.config import CoordinatorConfig, CoordinatorFolder
from server.liveness import problem
from simulations.deployed.pki import issue_server_certificate
from simulations.deployed.processes import free_ports


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Healthy) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


def coordinator(folder: Path, port: int) -> CoordinatorFolder:
    home = CoordinatorFolder(folder)
    home.write_config(
        CoordinatorConfig(name="test", public_address="localhost:443", superlink_port=port)
    )
    return home


def test_the_superlink_must_answer_with_a_certificate_of_our_authority(tmp_path: Path) -> None:
    own = issue_server_certificate(tmp_path / "pki")
    foreign = issue_server_certificate(tmp_path / "foreign")
    for certificate, healthy in ((own, True), (foreign, False)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        with answering(context) as port:
            found = problem(coordinator(tmp_path, port))
        assert (found is None) is healthy, found
    assert problem(CoordinatorFolder(tmp_path / "nothing")) is not None


@pytest.mark.parametrize("module", ["server.liveness", "client.liveness"])
def test_what_does_not_run_ends_with_status_one_and_a_reason(module: str, tmp_path: Path) -> None:
    part = ["agent"] if module.startswith("client") else []
    command = [sys.executable, "-m", module, *part]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr


def site(folder: Path, port: int) -> SiteConfig:
    sample = Path(__file__).parents[2] / "deploy" / "compose" / "site.toml"
    text = sample.read_text("utf-8").replace("/run/smrfed", str(folder))
    (folder / "site.toml").write_text(f"node_port = {port}\n{text}", "utf-8")
    return SiteConfig.load(folder / "site.toml")


def test_the_network_part_lives_while_its_supernode_answers(tmp_path: Path) -> None:
    with answering() as port:
        assert network_problem(site(tmp_path, port)) is None
    (free,) = free_ports(1)
    assert network_problem(site(tmp_path, free)) is not None


def test_an_agent_without_a_socket_does_not_live(tmp_path: Path) -> None:
    assert "SMR-E412" in str(agent_problem(site(tmp_path, 9094)))
