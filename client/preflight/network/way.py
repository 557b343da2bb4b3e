"""The connection that the SuperNode will open: straight, or through a proxy's tunnel."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from client.proxy import Proxy
from shared_model.errors import SmrfedError

CONNECT_S = 5.0
_HEADER_BYTES = 1 << 16


@dataclass
class Way:
    """One way to one coordinator; the checks note on it how far they came.

    Args:
        host, port: of the coordinator.
        proxy: that opens the tunnel, or none.
        authority: PEM file of the pinned certificate authority; none before the hospital joined.
    """

    host: str
    port: int
    proxy: Proxy | None
    authority: Path | None
    reached: bool = False
    secured: bool = False
    answered: bool = False

    @property
    def address(self) -> str:
        """``host:port``, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def first_hop(self) -> tuple[str, int]:
        """What this machine itself connects to."""
        if self.proxy is not None:
            return self.proxy.host, self.proxy.port
        return self.host, self.port

    def open(self) -> socket.socket:
        """A connected socket, behind which the coordinator is; raises SMR-E431 and SMR-E432."""
        found = _connect(*self.first_hop, CONNECT_S)
        if isinstance(found, str):
            raise self._unreachable(found)
        if self.proxy is None:
            return found
        try:
            self._tunnel(found, self.proxy)
        except BaseException:
            found.close()
            raise
        return found

    def open_tls(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """The same with TLS inside; raises ssl.SSLError and OSError as they come."""
        plain = self.open()
        try:
            return context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise

    def trusting(self) -> ssl.SSLContext:
        """TLS as the SuperNode speaks it: the pinned authority alone, and the host's name.

        Before the hospital joined nothing is pinned, and nothing secret is sent by the checks: then
        any certificate will do.
        """
        if self.authority is None:
            return blind()
        return ssl.create_default_context(cafile=self.authority)

    def _tunnel(self, hop: socket.socket, proxy: Proxy) -> None:
        asked = f"CONNECT {self.address} HTTP/1.1\r\nHost: {self.address}\r\n"
        if proxy.authorization is not None:
            asked += f"Proxy-Authorization: {proxy.authorization}\r\n"
        try:
            hop.sendall(f"{asked}\r\n".encode("ascii"))
            answer = _until_blank_line(hop)
        except OSError as error:
            raise self._refused(f"{error or type(error).__name__}, and no answer") from None
        status = answer.split(b"\r\n", 1)[0].decode("latin-1").strip()
        parts = status.split()
        if len(parts) < 2 or not parts[0].startswith("HTTP/") or not parts[1].startswith("2"):
            raise self._refused(status[:200] or "it closed the connection")

    def _unreachable(self, found: str) -> SmrfedError:
        proxied = self.proxy is not None
        host, port = self.first_hop
        return SmrfedError(
            "SMR-E431",
            f"{'the proxy' if proxied else 'the coordinator'} does not answer at {host}:{port}",
            expected="a TCP connection from this machine, outbound",
            found=found,
            remedy="correct the proxy's address, or open the way to it"
            if proxied
            else f"open outbound TCP to {self.address} in the firewall, or name the hospital's "
            "proxy: HTTPS_PROXY, or [network] proxy in site.toml",
        )

    def _refused(self, found: str) -> SmrfedError:
        return SmrfedError(
            "SMR-E432",
            f"the proxy {self.proxy} opens no tunnel to {self.address}",
            expected="HTTP 200 to CONNECT",
            found=found,
            remedy="ask whoever runs the proxy to allow CONNECT to this host and port"
            + (", and set user and password" if "407" in found else ""),
        )


def blind() -> ssl.SSLContext:
    """TLS that looks at no certificate: to read one, or to knock before one is pinned."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _connect(host: str, port: int, timeout_s: float) -> socket.socket | str:
    """A socket, or why there is none; all addresses of the name share the time."""
    deadline = time.monotonic() + timeout_s
    why = "no address"
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return f"the name cannot be resolved: {error}"
    for family, kind, protocol, _, address in addresses:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        hop = socket.socket(family, kind, protocol)
        hop.settimeout(left)
        try:
            hop.connect(address)
        except OSError as error:
            hop.close()
            silent = isinstance(error, TimeoutError)
            why = f"nothing within {timeout_s:g} s: packets are dropped" if silent else str(error)
        else:
            hop.settimeout(CONNECT_S)
            return hop
    return why


def _until_blank_line(hop: socket.socket) -> bytes:
    answer = b""
    # Byte by byte: what follows the blank line is the coordinator's, and TLS must see it.
    while not answer.endswith(b"\r\n\r\n") and len(answer) < _HEADER_BYTES:
        byte = hop.recv(1)
        if not byte:
            break
        answer += byte
    return answer
