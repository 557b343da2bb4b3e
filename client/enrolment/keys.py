"""The keys that a hospital makes when it joins: they are made here and stay here."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from client.agent.durable import write_durably
from shared_model.enrolment.messages import node_key_line
from shared_model.errors import SmrfedError

NodePrivateKey = ec.EllipticCurvePrivateKey


def load_or_create_node_key(path: Path) -> NodePrivateKey:
    """The SuperNode's ECDSA P-384 key (OpenSSH, mode 0600), made on first use; raises SMR-E469."""
    if path.exists():
        key = load_node_key(path)
    else:
        key = ec.generate_private_key(ec.SECP384R1())
        write_durably(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public, line = path.with_name(path.name + ".pub"), node_key_line(key.public_key()).encode()
    if not public.exists() or public.read_bytes() != line:
        write_durably(public, line)
    return key


def load_node_key(path: Path) -> NodePrivateKey:
    """Read the key; raises SMR-E469."""
    try:
        key = load_ssh_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise _unusable(path, error) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _unusable(path, type(key).__name__)
    return key


def replace_key(new: Path, old: Path) -> None:
    """Put a new private key, and its public half, in the place of the old one."""
    new.replace(old)
    public = new.with_name(new.name + ".pub")
    if public.exists():
        public.replace(old.with_name(old.name + ".pub"))


def node_fingerprint(key: NodePrivateKey) -> str:
    """``xxxx-xxxx-...``: the first 128 bits of SHA-256 over the OpenSSH line."""
    digest = hashlib.sha256(node_key_line(key.public_key()).encode()).hexdigest()[:32]
    return "-".join(digest[i : i + 4] for i in range(0, 32, 4))


def _unusable(path: Path, found: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E469",
        f"the node key {path} cannot be used",
        expected="an ECDSA P-384 key in OpenSSH format, readable by this account",
        found=found,
        remedy="restore it from a backup, or join again with a new token and --new-keys",
    )
