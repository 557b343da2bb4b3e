"""An HTTPS connection to the coordinator that trusts one certificate authority, by fingerprint.

Nothing of ours is sent before the authority is known: the first connection only takes the chain
that the server shows, the second one verifies the server against the authority found in it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from client.proxy import NetworkOptions, proxy_for
from shared_model.enrolment.messages import ENROLMENT_PATH, MAX_MESSAGE_BYTES, Refusal
from shared_model.errors import SmrfedError

_TIMEOUT_S = 30.0
_BUSY = (429, 502, 503, 504)
_A = TypeVar("_A", bound=BaseModel)


@dataclass(frozen=True)
class PinnedCoordinator:
    """The coordinator at ``address`` (host:port), trusted by its authority's certificate (PEM)."""

    address: str
    authority: str
    network: NetworkOptions

    @classmethod
    def find(
        cls, address: str, authority_sha256: str, network: NetworkOptions
    ) -> PinnedCoordinator:
        """Take the authority with this digest from the chain that the server shows.

        Raises SMR-E465 (not reached) and SMR-E463 (another authority).
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        # Nothing is sent over this connection: it shows a certificate, which is then compared.
        context.verify_mode = ssl.CERT_NONE
        connection = _connection(address, network, context)
        try:
            connection.connect()
            shown = _shown_chain(connection.sock)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(address, network, error) from None
        finally:
            connection.close()
        for der in shown:
            if hashlib.sha256(der).hexdigest() == authority_sha256:
                return cls(address, ssl.DER_cert_to_PEM_cert(der), network)
        raise _another_authority(
            address, authority_sha256, [hashlib.sha256(der).hexdigest()[:16] for der in shown]
        )

    def ask(self, action: str, request: BaseModel, answer: type[_A]) -> _A:
        """Send one request; raises SMR-E463, SMR-E464 (refused), SMR-E465 and SMR-E466."""
        try:
            context = ssl.create_default_context(cadata=self.authority)
        except ssl.SSLError as error:
            raise _another_authority(self.address, "a certificate", error) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        connection = _connection(self.address, self.network, context)
        try:
            connection.request(
                "POST",
                ENROLMENT_PATH + action,
                request.model_dump_json().encode(),
                {"Content-Type": "application/json"},
            )
            response = connection.getresponse()
            body = response.read(MAX_MESSAGE_BYTES + 1)
        except ssl.SSLCertVerificationError as error:
            raise _another_authority(
                self.address, "a certificate from the pinned authority", error
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self.address, self.network, error) from None
        finally:
            connection.close()
        if response.status in _BUSY and not body.startswith(b"{"):
            busy = OSError(f"HTTP status {response.status}: busy, or the service is not running")
            raise _unreachable(self.address, self.network, busy)
        if response.status != 200:
            raise _refused(response.status, body)
        try:
            return answer.model_validate_json(body)
        except ValidationError as error:
            raise _refused(response.status, b"", f"{error.error_count()} wrong fields") from None


def _connection(
    address: str, network: NetworkOptions, context: ssl.SSLContext
) -> http.client.HTTPSConnection:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    proxy = proxy_for(host, network)
    if proxy is None:
        return http.client.HTTPSConnection(host, int(port), timeout=_TIMEOUT_S, context=context)
    through = http.client.HTTPSConnection(
        proxy.host, proxy.port, timeout=_TIMEOUT_S, context=context
    )
    headers = {"Host": address}
    if proxy.authorization is not None:
        headers["Proxy-Authorization"] = proxy.authorization
    through.set_tunnel(host, int(port), headers)
    return through


def _shown_chain(connection: Any) -> list[bytes]:
    """Certificates (DER) that the server sent, unverified; public only from Python 3.13 on.

    Before that the same method is one level deeper, which tests/server/test_enrolment_service.py
    holds.
    """
    if hasattr(connection, "get_unverified_chain"):
        return [bytes(der) for der in connection.get_unverified_chain()]
    chain = connection._sslobj.get_unverified_chain() or ()
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in chain]


def _refused(status: int, body: bytes, found: str | None = None) -> SmrfedError:
    try:
        said = Refusal.model_validate(json.loads(body))
    except (ValueError, ValidationError, RecursionError):
        return SmrfedError(
            "SMR-E464",
            "the coordinator did not answer as an enrolment service does",
            expected="an answer of smrfed",
            found=found or f"HTTP status {status}",
            remedy="check token and address with the coordinator; a proxy on the way may answer in "
            "its place",
        )
    code = "SMR-E466" if said.code == "SMR-E597" else "SMR-E464"
    found = said.found or f"{said.code} at the coordinator"
    remedy = said.remedy or "ask the coordinator"
    return SmrfedError(code, _plain(said.what), found=_plain(found), remedy=_plain(remedy))


def _plain(text: str) -> str:
    """Words from outside, fit for a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)[:500]


def _unreachable(address: str, network: NetworkOptions, error: Exception) -> SmrfedError:
    proxy = proxy_for(address.rpartition(":")[0].strip("[]"), network)
    return SmrfedError(
        "SMR-E465",
        f"the coordinator at {address} cannot be reached",
        expected="an outbound TLS connection, "
        + ("direct" if proxy is None else f"through the proxy {proxy}"),
        found=f"{type(error).__name__}: {error}"[:300],
        remedy="check firewall and proxy ([network] proxy in site.toml, or HTTPS_PROXY), then "
        "repeat the command",
    )


def _another_authority(address: str, expected: object, found: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E463",
        f"{address} does not show the certificate authority that this hospital was told to trust",
        expected=expected,
        found=found,
        remedy="nothing was sent. If a proxy inspects TLS, ask IT to exempt this host; otherwise "
        "compare the authority's fingerprint with the coordinator by telephone",
    )
