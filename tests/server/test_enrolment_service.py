"""The enrolment service before strangers: 403, bounded, and what a proxy on the way sees."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest
from enrolment_federation import Federation, federation, serving

from client.enrolment.pinned import PinnedCoordinator, _shown_chain
from client.proxy import NetworkOptions
from server.enrolment import service as service_module
from server.enrolment.authority import authority_sha256
from server.enrolment.commands import enrolment_service
from shared_model.enrolment.messages import ENROLMENT_PATH, LookRequest, Offer
from shared_model.errors import SmrfedError
from simulations.deployed.processes import free_ports


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Federation]:
    with federation(tmp_path) as made:
        yield made


def talk(
    running: Federation, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, bytes]:
    address = running.folder.config.public_address
    context = ssl.create_default_context(cafile=str(running.folder.authority))
    connection = http.client.HTTPSConnection(address, timeout=20, context=context)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_strangers_are_forbidden_everything(running: Federation) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "POST"):
        for path in ("/", "/health", ENROLMENT_PATH, ENROLMENT_PATH + "other"):
            expected = (403, b"" if method == "HEAD" else b"{}")
            assert talk(running, method, path) == expected, (method, path)


@pytest.mark.parametrize("action", ["look", "join", "news", "rotate"])
def test_a_body_that_is_no_request_is_forbidden(running: Federation, action: str) -> None:
    deep = (b"[" * 50_000, b'{"a":' * 5_000)
    for body in (b"", b"{", b"[]", b'{"secret": 3}', b"\xff\xfe", *deep):
        found = talk(running, "POST", ENROLMENT_PATH + action, body)
        assert found == (403, b"{}"), body[:9]


def raw(running: Federation, head: str, body: bytes) -> bytes:
    host, _, port = running.folder.config.public_address.rpartition(":")
    context = ssl.create_default_context(cafile=str(running.folder.authority))
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        return connection.recv(64)


@pytest.mark.parametrize(
    "length",
    [
        *("Content-Length: 65537", "Content-Length: -1", "Content-Length: 1e3", "Accept: no"),
        *("Content-Length: 99999999999999", "Content-Length: +5", "Transfer-Encoding: chunked"),
    ],
)
def test_a_body_without_an_honest_length_is_forbidden(running: Federation, length: str) -> None:
    token = running.token()
    asked = LookRequest(secret=token.secret, site="north").model_dump_json().encode()
    head = f"POST {ENROLMENT_PATH}look HTTP/1.1\r\nHost: x\r\n"
    assert raw(running, head + length, asked).startswith(b"HTTP/1.0 403 ")
    good = raw(running, head + f"Content-Length: {len(asked)}", asked)
    assert good.startswith(b"HTTP/1.0 200 ")


def test_a_good_request_after_all_that_is_answered(running: Federation) -> None:
    token = running.token()
    asked = LookRequest(secret=token.secret, site="north").model_dump_json().encode()
    status, body = talk(running, "POST", ENROLMENT_PATH + "look", asked)
    assert status == 200
    assert json.loads(body)["federation"] == "test consortium"
    assert token.secret.encode() not in body


def test_who_says_nothing_holds_no_one_up(
    running: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_TIMEOUT_S", 0.5)
    host, _, port = running.folder.config.public_address.rpartition(":")
    silent = [socket.create_connection((host, int(port)), timeout=10) for _ in range(8)]
    running.join(running.hospital(), running.token())
    for one in silent:
        assert one.recv(1) == b""  # hung up on
        one.close()


def test_who_sends_a_byte_now_and_then_holds_no_one_up_either(
    running: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_LONGEST_S", 2.0)
    host, _, port = running.folder.config.public_address.rpartition(":")
    context = ssl.create_default_context(cafile=str(running.folder.authority))
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=host) as slow,
    ):
        slow.sendall(f"POST {ENROLMENT_PATH}look HTTP/1.1\r\n".encode())
        deadline = time.monotonic() + 60
        with contextlib.suppress(OSError):  # hung up on
            while time.monotonic() < deadline:
                slow.sendall(b"X-Slow: 1\r\n")
                time.sleep(0.1)
        assert time.monotonic() < deadline


@pytest.mark.parametrize("asked_at", [2**70, -5, 2**40])
def test_a_time_that_is_none_is_forbidden(running: Federation, asked_at: int) -> None:
    asked = json.dumps({"site": "north", "asked_at": asked_at, "signature": "00" * 64})
    assert talk(running, "POST", ENROLMENT_PATH + "news", asked.encode()) == (403, b"{}")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_plain_http_is_not_served_to_other_machines(running: Federation, host: str) -> None:
    with pytest.raises(SmrfedError, match="SMR-E592"):
        enrolment_service(running.folder.path, tls=False, host=host, port=None)


def test_more_connections_than_allowed_are_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_CONNECTIONS", 2)
    with federation(tmp_path) as few:
        host, _, port = few.folder.config.public_address.rpartition(":")
        held = [socket.create_connection((host, int(port)), timeout=20) for _ in range(5)]
        refused = 0
        for one in held[2:]:
            refused += one.recv(1) == b""
        assert refused == 3
        for one in held:
            one.close()


def test_a_flood_is_slowed_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "_BURST", 3.0)
    monkeypatch.setattr(service_module, "_PER_SECOND", 0.001)
    with federation(tmp_path) as slow:
        answers = []
        for _ in range(5):
            try:
                answers.append(talk(slow, "GET", "/")[0])
            except OSError:
                answers.append(0)
        assert answers == [403, 403, 403, 0, 0]


def test_two_hospitals_with_one_token_at_the_same_time(running: Federation) -> None:
    token = running.token()
    hospitals = [running.hospital("north", folder=f"north-{n}") for n in range(4)]
    joined: list[int] = []

    def join(number: int) -> None:
        try:
            running.join(hospitals[number], token)
        except SmrfedError:
            return
        joined.append(number)

    threads = [threading.Thread(target=join, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(joined) == 1
    assert len(running.nodes.known) == 1


def test_the_chain_that_a_server_shows_is_read(running: Federation) -> None:
    """Contract: before Python 3.13 the method that shows the chain is one level deeper."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, _, port = running.folder.config.public_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as plain:
        shown = _shown_chain(context.wrap_socket(plain))
    assert len(shown) == 2
    authority = ssl.PEM_cert_to_DER_cert(running.folder.authority.read_text())
    assert shown[1] == authority


class _Tunnel(socketserver.BaseRequestHandler):
    """A proxy that opens tunnels for who says the password, and writes down what it was asked."""

    asked: ClassVar[list[str]] = []
    seen: ClassVar[bytearray] = bytearray()

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(1)
        line = head.decode().split("\r\n")[0]
        self.asked.append(line.rpartition(" ")[0])
        if b"Proxy-Authorization: Basic dXNlcjpwYXNz" not in head:
            self.request.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        host, _, port = line.split()[1].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=20) as there:
            self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_copy, args=(there, self.request), daemon=True)
            back.start()
            _copy(self.request, there, self.seen)
            back.join(20)


def _copy(source: socket.socket, target: socket.socket, seen: bytearray | None = None) -> None:
    try:
        while data := source.recv(65536):
            if seen is not None:
                seen.extend(data)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@contextmanager
def proxy() -> Iterator[str]:
    _Tunnel.asked.clear()
    _Tunnel.seen.clear()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Tunnel) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_hospital_behind_a_proxy_joins_through_it(running: Federation) -> None:
    hospital, token = running.hospital(), running.token()
    with proxy() as address:
        way = NetworkOptions(proxy=f"http://user:pass@{address}")
        running.join(hospital.model_copy(update={"network": way}), token)
        assert set(_Tunnel.asked) == {f"CONNECT {token.address}"}
        assert token.secret.encode() not in _Tunnel.seen
        closed = NetworkOptions(proxy=f"http://user:wrong@{address}")
        with pytest.raises(SmrfedError, match="SMR-E465") as raised:
            running.join(hospital.model_copy(update={"network": closed}), token)
        assert "wrong" not in str(raised.value)


def test_a_proxy_of_the_environment_is_used(
    running: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with proxy() as address:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass@{address}")
        running.join(running.hospital(), running.token())
        assert _Tunnel.asked


def test_a_proxy_that_looks_into_tls_gets_nothing(running: Federation, tmp_path: Path) -> None:
    """It shows a certificate of its own: the authority's fingerprint does not match."""
    token = running.token()
    with federation(tmp_path / "box") as box:
        address = box.folder.config.public_address
        with pytest.raises(SmrfedError, match="SMR-E463"):
            PinnedCoordinator.find(address, token.authority_sha256, NetworkOptions())
        other = PinnedCoordinator.find(address, authority_sha256(box.folder), NetworkOptions())
        with pytest.raises(SmrfedError, match="SMR-E464"):
            other.ask("look", LookRequest(secret=token.secret, site="north"), Offer)


def test_a_reissued_certificate_is_served_without_a_restart(running: Federation) -> None:
    from server.enrolment.authority import renew_if_due

    (port,) = free_ports(1)
    with serving(running.folder, running.enroller, port):
        before = ssl.get_server_certificate(("127.0.0.1", port), timeout=20)
        renew_if_due(running.folder, force=True)
        assert ssl.get_server_certificate(("127.0.0.1", port), timeout=20) != before
