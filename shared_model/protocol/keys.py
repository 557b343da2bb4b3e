"""Ed25519 signing keys on disk, and the fingerprints that people compare."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from shared_model.errors import SmrfedError


def create_signing_key(path: Path) -> Ed25519PrivateKey:
    """Make a key at ``path`` (mode 0600) with its public half at ``path.pub``; never overwrites."""
    key = Ed25519PrivateKey.generate()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        # Half a key would be taken for a lost one at every later start.
        path.unlink(missing_ok=True)
        raise
    public_path(path).write_bytes(public_pem(key.public_key()))
    return key


def load_or_create_signing_key(path: Path) -> Ed25519PrivateKey:
    """The key at ``path``, made on first use; its public half is put right where it is missing."""
    if not path.exists():
        return create_signing_key(path)
    key = load_signing_key(path)
    public, pem = public_path(path), public_pem(key.public_key())
    with suppress(OSError):  # a key from a read-only mount may well come alone
        if not public.exists() or public.read_bytes() != pem:
            public.write_bytes(pem)
    return key


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key; raises SMR-E118."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _unreadable(path, type(key).__name__)
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key; raises SMR-E118."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not isinstance(key, Ed25519PublicKey):
        raise _unreadable(path, type(key).__name__)
    return key


def public_path(path: Path) -> Path:
    """Where the public half of the key at ``path`` lies."""
    return path.with_name(path.name + ".pub")


def public_pem(key: Ed25519PublicKey) -> bytes:
    """The public key as PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def fingerprint(key: Ed25519PublicKey) -> str:
    """``xxxx-xxxx-...``: the first 128 bits of SHA-256 over the raw key, for reading aloud."""
    digest = hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:32]
    return "-".join(digest[i : i + 4] for i in range(0, 32, 4))


def _unreadable(path: Path, found: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E118",
        f"cannot read the signing key {path}",
        expected="an Ed25519 key in PEM",
        found=found,
        remedy="check the path and the file's owner; a lost site key is replaced by joining again",
    )
