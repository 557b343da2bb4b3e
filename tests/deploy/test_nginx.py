"""What nginx lets through to the coordinator, and what it does not: the real one, over real TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from nginx_front import FILES, NGINX, NginxFront

from simulations.deployed.pki import ServerCertificate, issue_server_certificate

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
]
MEBIBYTE = 1 << 20


class StandIn(ThreadingHTTPServer):
    """Answers everything with 200 and remembers what it was asked; with or without TLS."""

    daemon_threads = True

    def __init__(self, certificate: ServerCertificate | None) -> None:
        self.seen: list[tuple[str, str, int, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), _Answer)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.certificate, certificate.key)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def paths(self) -> list[str]:
        return [path for _, path, _, _ in self.seen]


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        got = len(self.rfile.read(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.command, self.path, got, headers))
        self.send_response(200)
        body = b"x" * (6 * MEBIBYTE if self.path.endswith("pull-object") else 2)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


class Front:
    """nginx, what stands behind it, and a client that trusts the authority."""

    def __init__(self, front: NginxFront, superlink: StandIn, enrolment: StandIn, ca: Path) -> None:
        self.nginx, self.superlink, self.enrolment = front, superlink, enrolment
        self.trusted = ssl.create_default_context(cafile=str(ca))
        self.url = f"https://localhost:{front.port}"
        self.client = httpx.Client(
            base_url=self.url, verify=self.trusted, timeout=60, trust_env=False
        )

    def raw(self, request: bytes) -> tuple[int, bytes]:
        """Status and answer of a request sent as it is, without a client that tidies it."""
        with (
            socket.create_connection(("127.0.0.1", self.nginx.port), 30) as plain,
            self.trusted.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            tls.sendall(request)
            answer = b""
            while block := tls.recv(65536):
                answer += block
        return int(answer.split(b" ", 2)[1]), answer


@contextmanager
def running(folder: Path, extra: str = "", wrong_authority: bool = False) -> Iterator[Front]:
    certificate = issue_server_certificate(folder / "pki")
    other = issue_server_certificate(folder / "other").authority if wrong_authority else None
    servers = StandIn(certificate), StandIn(None)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ports = [int(server.server_address[1]) for server in servers]
    try:
        with NginxFront(folder / "nginx", certificate, *ports, extra, other) as front:
            found = Front(front, *servers, certificate.authority)
            with found.client:
                yield found
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with running(tmp_path_factory.mktemp("nginx")) as found:
        yield found


def test_the_fleet_path_carries_pieces_of_a_model_both_ways(front: Front) -> None:
    piece = bytes(6 * MEBIBYTE)
    answer = front.client.post("/v1/fleet/push-object", content=piece, headers={"x-node": "k"})
    assert answer.status_code == 200
    method, path, length, headers = front.superlink.seen[-1]
    assert (method, path, length) == ("POST", "/v1/fleet/push-object", len(piece))
    assert headers["x-node"] == "k"
    got = front.client.post("/v1/fleet/pull-object", content=b"")
    assert len(got.content) == 6 * MEBIBYTE


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(front: Front, chunked: bool) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(17):
            yield bytes(MEBIBYTE)

    before = len(front.superlink.seen)
    body = pieces() if chunked else bytes(17 * MEBIBYTE)
    try:
        status = front.client.post("/v1/fleet/push-object", content=body).status_code
    except httpx.TransportError:
        status = 413  # nginx answers and closes while the client is still sending
    assert status == 413
    assert len(front.superlink.seen) == before


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/control/start-run", "/v1/control/register-node", "/v1/runtime/acquire-task"),
        *(
            "/docs",
            "/openapi.json",
            "/",
            "/metrics",
            "/dashboard",
            "/health/x",
            "/v1/fleet",
            "/v1/",
        ),
        *("/smrfed/enrol", "/smrfed/", "/smrfed/dashboard", "/V1/FLEET/x"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_else_is_reachable(front: Front, path: str, method: str) -> None:
    before = len(front.superlink.seen), len(front.enrolment.seen)
    answer = front.client.request(method, path)
    # A folder without its slash may also be sent to the folder, which refuses what it refuses.
    assert answer.status_code == 403 or (
        answer.status_code == 301 and answer.headers["location"].endswith(path + "/")
    )
    assert (len(front.superlink.seen), len(front.enrolment.seen)) == before


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/fleet/../control/list-runs", "/v1/fleet/%2e%2e/control/list-runs"),
        *("/v1/fleet/..%2fcontrol/list-runs", "/v1/fleet/./../../v1/control/list-runs"),
        *("//v1/control/list-runs", "/v1/control/../fleet/../control/x", "/v1/%63ontrol/list-runs"),
        *("/health/../v1/control/list-runs", "/smrfed/enrol/../../v1/control/list-runs"),
        "/v1/fleet/..;/control/list-runs",
    ],
)
def test_no_detour_leads_to_the_control_interface(front: Front, path: str) -> None:
    request = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    status, _ = front.raw(request.encode() + b"Content-Length: 0\r\n\r\n")
    # What nginx does not understand it may pass below /v1/fleet/, where Flower has no such name.
    assert status in (400, 403) or front.superlink.paths[-1].startswith("/v1/fleet/..;")
    assert not [p for p in front.superlink.paths if not p.startswith(("/v1/fleet/", "/health"))]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/v1/fleet/pull-messages", "/smrfed/enrol/join"])
def test_only_post_is_let_through(front: Front, method: str, path: str) -> None:
    assert front.client.request(method, path).status_code == 403


def test_a_request_that_two_servers_would_read_differently_is_refused(front: Front) -> None:
    both = (
        b"POST /v1/fleet/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nPOST /v1/control/start-run HTTP/1.1\r\n\r\n"
    )
    before = len(front.superlink.seen)
    assert front.raw(both)[0] == 400
    assert len(front.superlink.seen) == before


def test_health_answers_and_takes_no_body(front: Front) -> None:
    assert front.client.get("/health").status_code == 200
    assert front.superlink.paths[-1] == "/health"
    assert front.client.post("/health").status_code == 403


def test_the_client_can_neither_choose_its_address_nor_see_what_is_behind(front: Front) -> None:
    forged = {"X-Forwarded-For": "192.0.2.1", "X-Real-IP": "192.0.2.1"}
    answer = front.client.post("/v1/fleet/x", headers=forged)
    headers = front.superlink.seen[-1][3]
    assert "192.0.2.1" not in headers.values()
    assert answer.headers["server"] == "nginx"
    assert answer.headers["strict-transport-security"]
    refused = front.client.get("/")
    assert refused.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in refused.headers["content-security-policy"]


def test_the_log_holds_no_query_and_no_header(front: Front) -> None:
    front.client.post("/v1/fleet/x?secret=abcdef", headers={"x-token": "ghijkl"})
    log = front.nginx.log.read_text("utf-8")
    assert "/v1/fleet/x" in log
    assert "abcdef" not in log
    assert "ghijkl" not in log


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
def test_old_tls_is_refused(front: Front, version: ssl.TLSVersion, accepted: bool) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", front.nginx.port), 30) as plain:
        if not accepted:
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                context.wrap_socket(plain, server_hostname="localhost")
            return
        with context.wrap_socket(plain, server_hostname="localhost") as tls:
            assert tls.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
            cipher = tls.cipher()
            assert cipher is not None
            assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]


def test_joining_is_small_and_slow(tmp_path: Path) -> None:
    with running(tmp_path) as front:
        ask = front.client.post
        assert ask("/smrfed/enrol/join", content=bytes(64 * 1024)).status_code == 200
        _, path, length, headers = front.enrolment.seen[-1]
        assert (path, length) == ("/smrfed/enrol/join", 64 * 1024)
        assert headers["x-real-ip"] == "127.0.0.1"
        assert ask("/smrfed/enrol/join", content=bytes(64 * 1024 + 1)).status_code == 413
        statuses = [ask("/smrfed/enrol/join").status_code for _ in range(30)]
        assert statuses[0] == 200
        assert statuses.count(429) >= 15, "guessing invitations is not slowed down"
        # Guessers do not keep anybody from taking part.
        assert ask("/v1/fleet/pull-messages").status_code == 200


def test_a_superlink_with_a_foreign_certificate_gets_nothing(tmp_path: Path) -> None:
    with running(tmp_path, wrong_authority=True) as front:
        assert front.client.post("/v1/fleet/x").status_code == 502
        assert front.superlink.seen == []


def test_the_address_list_keeps_others_out(tmp_path: Path) -> None:
    snippet = (FILES / "snippets" / "allow-addresses.conf").read_text("utf-8")
    with running(tmp_path / "out", snippet) as front:
        for path in ("/v1/fleet/x", "/smrfed/enrol/join", "/health"):
            assert front.client.post(path).status_code == 403
        assert front.client.get("/health").status_code == 403
        assert front.superlink.seen == front.enrolment.seen == []
    with running(tmp_path / "in", snippet.replace("192.0.2.10", "127.0.0.1")) as front:
        assert front.client.post("/v1/fleet/x").status_code == 200
        assert front.client.post("/v1/control/x").status_code == 403


def test_with_client_certificates_nobody_comes_in_without_one(tmp_path: Path) -> None:
    # Any certificate of the named authority will do for the test: it is its own client.
    own = issue_server_certificate(tmp_path / "client")
    text = (FILES / "snippets" / "client-certificates.conf").read_text("utf-8")
    snippet = text.replace("/etc/smrfed/client-ca.crt;", f"{own.authority};", 1)
    with running(tmp_path / "front", snippet) as front:
        assert front.client.post("/v1/fleet/x").status_code == 400
        assert front.superlink.seen == []
