"""The coordinator's certificate authority, and the server certificate that it reissues by itself.

Sites pin the authority and nothing else, so that a new server certificate asks nothing of them. The
authority lasts twenty years; the server certificate thirteen months, and is made anew sixty days
before its end, with the same key, so that one file changes and never half of a pair.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from server.checkpoints.durable import replace_durably
from server.config import CoordinatorFolder
from shared_model.errors import SmrfedError
from shared_model.supervision.secret_file import ensure_secret

AUTHORITY_DAYS = 20 * 365
SERVER_DAYS = 396
RENEWED_BEFORE_DAYS = 60
_Key = ec.EllipticCurvePrivateKey


def create_authority(folder: CoordinatorFolder) -> None:
    """Make what is missing of: authority, server certificate, SuperExec secret; keeps the rest."""
    folder.authority.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not folder.authority.exists():
        _write_authority(folder)
    if not folder.certificate.exists():
        issue_server_certificate(folder)
    ensure_secret(folder.superexec_secret)


def issue_server_certificate(folder: CoordinatorFolder) -> x509.Certificate:
    """A new certificate for the public host and loopback, with the authority behind it in the file.

    Raises SMR-E590 (configuration) and SMR-E591 (the authority cannot be read).
    """
    authority, authority_key = _authority(folder)
    if not folder.certificate_key.exists():
        _write_key(folder.certificate_key, ec.generate_private_key(ec.SECP384R1()))
    key = _load_key(folder.certificate_key)
    host = folder.config.public_host
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    names += [name for name in (_general_name(host),) if name not in names]
    certificate = (
        _builder(host[:64], authority.subject, key, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA384())
    )
    pem = [one.public_bytes(Encoding.PEM) for one in (certificate, authority)]
    replace_durably(folder.certificate, b"".join(pem))
    return certificate


def renew_if_due(folder: CoordinatorFolder, *, force: bool = False) -> bool:
    """Reissue the server certificate when its end is near or it fits the folder no more.

    It fits when it comes from this authority, for this key, and names the public host. Raises
    SMR-E591.
    """
    due = force or days_left(folder) < RENEWED_BEFORE_DAYS or not _fits(folder)
    if due:
        issue_server_certificate(folder)
    return due


def days_left(folder: CoordinatorFolder) -> float:
    """Days until the server certificate ends; negative afterwards, and without a readable one."""
    try:
        certificate = x509.load_pem_x509_certificate(folder.certificate.read_bytes())
    except (OSError, ValueError):
        return -1.0
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return left.total_seconds() / 86400


def authority_sha256(folder: CoordinatorFolder) -> str:
    """What a token pins: SHA-256 of the authority's certificate (DER); raises SMR-E591."""
    try:
        return _digest(x509.load_pem_x509_certificate(folder.authority.read_bytes()))
    except (OSError, ValueError) as error:
        raise _unusable(folder.authority, error) from None


def write_private(path: Path, content: bytes) -> None:
    """Write a secret that only its owner may read (mode 0600), in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _write_authority(folder: CoordinatorFolder) -> None:
    if not folder.authority_key.exists():
        _write_key(folder.authority_key, ec.generate_private_key(ec.SECP384R1()))
    key = _load_key(folder.authority_key)
    name = f"smrfed authority of {folder.config.name}"[:64]
    certificate = (
        _builder(name, _name(name), key, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(authority=True), critical=True)
        .sign(key, hashes.SHA384())
    )
    replace_durably(folder.authority, certificate.public_bytes(Encoding.PEM))


def _authority(folder: CoordinatorFolder) -> tuple[x509.Certificate, _Key]:
    try:
        certificate = x509.load_pem_x509_certificate(folder.authority.read_bytes())
    except (OSError, ValueError) as error:
        raise _unusable(folder.authority, error) from None
    key = _load_key(folder.authority_key)
    if certificate.public_key() != key.public_key():
        raise _unusable(folder.authority, "a certificate of another key than ca.key")
    return certificate, key


def _fits(folder: CoordinatorFolder) -> bool:
    authority, _ = _authority(folder)
    try:
        certificate = x509.load_pem_x509_certificate(folder.certificate.read_bytes())
        certificate.verify_directly_issued_by(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        same_key = certificate.public_key() == _load_key(folder.certificate_key).public_key()
    except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return same_key and _general_name(folder.config.public_host) in list(names)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _digest(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _load_key(path: Path) -> _Key:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise _unusable(path, error) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unusable(path, type(key).__name__)
    return key


def _write_key(path: Path, key: _Key) -> None:
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _builder(subject: str, issuer: x509.Name, key: _Key, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        # A site's clock that lags must not refuse a certificate made a moment ago.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def key_usage(*, authority: bool) -> x509.KeyUsage:
    """What the key of an authority, or else of a server, may be used for."""
    return x509.KeyUsage(
        digital_signature=not authority,
        key_encipherment=False,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _unusable(path: Path, found: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E591",
        f"the coordinator's certificate authority cannot be used: {path}",
        expected="ca.crt and ca.key of one authority, as smrfed-coordinator init makes them",
        found=found,
        remedy="restore the folder pki/ from a backup: every site pins this authority, and a new "
        "one means new invitations for all",
    )
