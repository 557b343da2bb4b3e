"""Whether the certificate that comes back is the coordinator's own: nobody reads along."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from client.preflight.network.way import Way, blind
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Note, NotLookedAt

_SOON = timedelta(days=14)
# X509_V_ERR_*: not yet valid, expired; another host, another address.
_TIME = {9, 10}
_HOST = {62, 64}


@dataclass(frozen=True)
class Presented:
    """The certificate that the other end showed, whoever it is."""

    issuer: str
    names: tuple[str, ...]
    begins: datetime
    ends: datetime
    sha256: str

    @property
    def span(self) -> str:
        """From when to when."""
        return f"valid from {self.begins:%Y-%m-%d %H:%M} to {self.ends:%Y-%m-%d %H:%M} UTC"


def check_certificate(way: Way) -> str:
    """Shake hands as the SuperNode does.

    Raises SMR-E433 (another authority: intercepted), SMR-E434 (expired, not yet valid), SMR-E435
    (another host), SMR-E431 when the connection breaks off.
    """
    if not way.reached:
        raise NotLookedAt("no connection")
    if way.authority is not None and not way.authority.is_file():
        raise NotLookedAt(f"{way.authority.name} is missing")
    if way.authority is None:
        shown = _presented(way)
        way.secured = True
        return Note(
            f"issued by {shown.issuer}, {shown.span}; no authority is pinned yet: it is compared "
            "when the hospital joins, or name one with --authority"
        )
    try:
        way.open_tls(way.trusting()).close()
    except ssl.SSLCertVerificationError as error:
        raise _explained(error, way, _presented(way)) from None
    except (ssl.SSLError, OSError) as error:
        raise _broken_off(way, error) from None
    way.secured = True
    shown = _presented(way)
    left = shown.ends - datetime.now(UTC)
    text = f"from the pinned authority, for {way.host}, {left.days} days left"
    if left < _SOON:
        return Note(f"{text}: the coordinator renews it; tell them if nothing happens")
    return text


def _presented(way: Way) -> Presented:
    """Read the certificate without trusting it; nothing is sent over this connection."""
    try:
        with way.open_tls(blind()) as connection:
            encoded = connection.getpeercert(binary_form=True) or b""
        certificate = x509.load_der_x509_certificate(encoded)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise _broken_off(way, error) from None
    return Presented(
        issuer=_name(certificate.issuer),
        names=_alternative_names(certificate) or (_name(certificate.subject),),
        begins=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _explained(error: ssl.SSLCertVerificationError, way: Way, shown: Presented) -> SmrfedError:
    if error.verify_code in _TIME:
        now = datetime.now(UTC)
        early = now < shown.begins
        word = "not valid yet" if early else "expired"
        return SmrfedError(
            "SMR-E434",
            f"the coordinator's certificate is {word}",
            expected=f"a certificate that is valid now, {now:%Y-%m-%d %H:%M} UTC by this clock",
            found=f"issued by {shown.issuer}, {shown.span}",
            remedy="set this machine's clock if it is wrong (see the check 'clock'); otherwise "
            "tell the coordinator to renew the certificate: smrfed-coordinator renew",
        )
    if error.verify_code in _HOST:
        return SmrfedError(
            "SMR-E435",
            f"the certificate is not one for {way.host}",
            expected=way.host,
            found=f"a certificate for {', '.join(shown.names[:6])}, issued by {shown.issuer}",
            remedy="use the address of the invitation; if that is the one, tell the coordinator: "
            "the certificate lacks this name",
        )
    return SmrfedError(
        "SMR-E433",
        "another authority than the coordinator's answers for it: somebody opens the TLS "
        "connection on the way",
        expected=f"a certificate from the pinned authority, {_authority(way)}",
        found=f"one issued by {shown.issuer}, {shown.span}, SHA-256 {shown.sha256[:16]}",
        remedy=f"ask whoever runs the firewall or proxy to let {way.address} through without TLS "
        "inspection; if that issuer is nobody of yours, ring the coordinator before going on",
    )


def _authority(way: Way) -> str:
    assert way.authority is not None
    try:
        own = x509.load_pem_x509_certificate(way.authority.read_bytes())
    except (OSError, ValueError):
        return str(way.authority)
    return _name(own.subject)


def _name(name: x509.Name) -> str:
    """The common name, and the organisation where there is one."""
    parts = [
        str(attribute.value)
        for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
        for attribute in name.get_attributes_for_oid(kind)
    ]
    return ", ".join(parts) or name.rfc4514_string() or "nobody named"


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (
        *names.get_values_for_type(x509.DNSName),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    )


def _broken_off(way: Way, error: Exception) -> SmrfedError:
    return SmrfedError(
        "SMR-E431",
        f"the connection to {way.address} breaks off before TLS is agreed",
        expected="TLS 1.2 or 1.3",
        found=f"{type(error).__name__}: {error}"[:200],
        remedy="see whether the port is the coordinator's; firewalls that allow web pages only cut "
        "other connections exactly here",
    )
