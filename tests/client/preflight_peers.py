"""Real peers for the pre-flight: authorities, TLS servers, proxies that tunnel and that inspect."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Authority:
    """A certificate authority with a name that a test can look for."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name.replace(" ", "-")
        self.folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = self._builder(self._name, self._key.public_key(), -1, 365)
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.file = self.folder / "ca.crt"
        self.file.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def server(self, host: str = "127.0.0.1", begins: float = -1, ends: float = 30) -> Path:
        """A PEM file with key and certificate for ``host``; the validity in days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            alternative = x509.DNSName(host)
        certificate = (
            self._builder(name, key.public_key(), begins, ends)
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        file = self.folder / f"{host}-{begins}-{ends}.pem"
        encoded = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(encoded + certificate.public_bytes(Encoding.PEM))
        return file

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, begins: float, ends: float
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=begins))
            .not_valid_after(now + datetime.timedelta(days=ends))
        )


@dataclass
class Behaviour:
    """How a pretended coordinator answers; requests are noted as method and body length."""

    health: int = 200
    largest_body: int = 16 << 20
    clock_s: float = 0.0


@contextlib.contextmanager
def coordinator(pem: Path, behaviour: Behaviour | None = None) -> Iterator[int]:
    """A TLS server on loopback that answers like a coordinator behind its proxy; its port."""
    how = behaviour or Behaviour()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def date_time_string(self, timestamp: float | None = None) -> str:
            import time

            return formatdate(time.time() + how.clock_s, usegmt=True)

        def do_GET(self) -> None:
            self._answer(how.health if self.path == "/health" else 404)

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            if length > how.largest_body:
                # As nginx does: by the announced length, without reading the body.
                self.close_connection = True
                self._answer(413)
                return
            self.rfile.read(length)
            self._answer(401)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # a client that hangs up in the handshake is what is tested

    server = Quiet(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def proxy(status: str = "200 Connection established", to: int | None = None) -> Iterator[int]:
    """An HTTP proxy that knows CONNECT only; with ``to`` it ends every tunnel at that local port.

    ``to`` is what a TLS-inspecting proxy does: it answers in the place of the real host.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                hop, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(hop,), daemon=True).start()

    def one(hop: socket.socket) -> None:
        with contextlib.suppress(OSError, IndexError), hop:
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += hop.recv(4096)
            word, target, _ = asked.split(b" ", 2)
            assert word == b"CONNECT"
            hop.sendall(f"HTTP/1.1 {status}\r\nProxy-Agent: test\r\n\r\n".encode())
            if not status.startswith("200"):
                return
            host, _, port = target.decode().rpartition(":")
            end = ("127.0.0.1", to) if to is not None else (host, int(port))
            with socket.create_connection(end) as far:
                back = threading.Thread(target=copy, args=(far, hop), daemon=True)
                back.start()
                copy(hop, far)
                back.join()

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(1 << 16):
                sink.sendall(content)
            sink.shutdown(socket.SHUT_WR)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port whose connections are never answered: its queue is full, so packets are dropped."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        waiting.append(filler)
    try:
        yield listener.getsockname()[1]
    finally:
        for filler in waiting:
            filler.close()
        listener.close()
