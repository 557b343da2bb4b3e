"""A SuperNode whose connection broke for good ends, so that its supervisor starts another."""

from __future__ import annotations

import http.server
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flwr.proto.fleet_pb2 import (
    ActivateNodeResponse,
    DeactivateNodeResponse,
    PullMessagesResponse,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatResponse

from client.enrolment.connection import ConnectionFolder
from client.supervisor.commands import supernode_command
from client.supervisor.lost_connection import LOST
from client.supervisor.up import explain_node
from shared_model.supervision.secret_file import ensure_secret
from simulations.deployed.environment import command, offline_environment
from simulations.deployed.pki import create_node_key, issue_server_certificate
from simulations.deployed.processes import free_ports

ANSWERS = {
    "activate-node": ActivateNodeResponse(node_id=7),
    "deactivate-node": DeactivateNodeResponse(),
    "send-node-heartbeat": SendNodeHeartbeatResponse(success=True),
    "pull-messages": PullMessagesResponse(),
}
Broken = dict[str, tuple[int, bytes]]


@contextmanager
def superlink(folder: Path, broken: Broken) -> Iterator[tuple[str, Path, threading.Event]]:
    """Something at the SuperLink's address, by real TLS; ``broken``: what it answers instead."""
    seen = threading.Event()

    class Fleet(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            name = self.path.rpartition("/")[2]
            status, body = 200, ANSWERS[name].SerializeToString()
            if name in broken:
                status, body = broken[name]
                seen.set()
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    made = issue_server_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fleet) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", made.authority, seen
        finally:
            server.shutdown()


@contextmanager
def supernode(folder: Path, address: str, authority: Path, program: tuple[str, ...] | None = None):
    """The process that ``smrfed-site up`` starts; ``program``: another one with its options."""
    connection = ConnectionFolder(folder / "connection")
    connection.path.mkdir()
    create_node_key(connection.node_key)
    ensure_secret(connection.superexec_secret)
    connection.authority.write_bytes(authority.read_bytes())
    line = supernode_command(connection, address, free_ports(1)[0], folder / "agent.sock")
    if program is not None:
        line = (*program, *line[line.index("flower-supernode") + 1 :])
    process = subprocess.Popen(
        line,
        env=os.environ | offline_environment(folder / "home"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"pull-messages": (404, b"")}, "it no longer fetches"),
        ({"pull-messages": (200, b"<html>log in to the network</html>")}, "it no longer fetches"),
        ({"send-node-heartbeat": (500, b"")}, "its thread "),
    ],
    ids=["a server without the service", "a page of the network's", "an error to a heartbeat"],
)
def test_it_ends_and_says_why(tmp_path: Path, broken: Broken, says: str) -> None:
    with (
        superlink(tmp_path / "pki", broken) as (address, authority, _),
        supernode(tmp_path, address, authority) as process,
    ):
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert f"{LOST}: {says}" in said
        # What `smrfed-site up` and `status` say of it then.
        assert "SMR-E478" in str(explain_node(said))


def test_flowers_own_command_stays_without_a_connection(tmp_path: Path) -> None:
    """Why there is a program of ours; when this fails, Flower ends its process by itself."""
    with (
        superlink(tmp_path / "pki", {"pull-messages": (404, b"")}) as (address, authority, seen),
        supernode(tmp_path, address, authority, (command("flower-supernode"),)) as process,
    ):
        assert seen.wait(60)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(5)


def test_it_ends_at_once_when_it_is_told(tmp_path: Path) -> None:
    with (
        superlink(tmp_path / "pki", {"send-node-heartbeat": (503, b"")}) as (
            address, authority, seen,
        ),
        supernode(tmp_path, address, authority) as process,
    ):  # fmt: skip
        # An error that Flower retries ends nothing.
        assert seen.wait(60)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
        process.terminate()
        assert process.wait(30) == 0
