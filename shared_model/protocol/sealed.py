"""The envelope in which every message travels: header, body, signature, and nothing executable."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared_model.errors import SmrfedError

# Run, round, digests, an acknowledgement, metrics: a few kilobytes.
MAX_HEADER_BYTES = 64 << 10
MAX_BODY_BYTES = 1 << 31
SIGNATURE_BYTES = 64
_DOMAIN = b"smrfed-sealed-v1\0"


@dataclass(frozen=True)
class Sealed:
    """A signed message: canonical JSON ``header``, safetensors ``body``, Ed25519 ``signature``.

    The signature covers :attr:`digest`, so neither part can be exchanged without notice; the body
    stays a separate byte string because all sites of a round receive the same one.
    """

    header: bytes
    body: bytes
    signature: bytes

    def __post_init__(self) -> None:
        for part, size, limit in (
            ("header", len(self.header), MAX_HEADER_BYTES),
            ("body", len(self.body), MAX_BODY_BYTES),
        ):
            if size > limit:
                raise SmrfedError(
                    "SMR-E111",
                    f"the {part} of a message is larger than the protocol allows",
                    expected=f"at most {limit} bytes",
                    found=f"{size} bytes",
                    remedy="refuse the sender; a model this large needs a new protocol version",
                )
        if len(self.signature) != SIGNATURE_BYTES:
            raise SmrfedError(
                "SMR-E112",
                "a message carries no valid signature field",
                expected=f"{SIGNATURE_BYTES} bytes",
                found=f"{len(self.signature)} bytes",
                remedy="check that both ends run the same smrfed version",
            )

    @property
    def digest(self) -> bytes:
        """SHA-256 (32 bytes) over the lengths and contents of header and body."""
        return message_digest(self.header, self.body)

    def verify(self, key: Ed25519PublicKey, sender: str) -> None:
        """Check the signature of ``sender``; raises SMR-E113 when it does not hold."""
        try:
            key.verify(self.signature, self.digest)
        except InvalidSignature:
            raise SmrfedError(
                "SMR-E113",
                f"a message that claims to come from {sender!r} is not signed by its key",
                remedy="treat the message as forged; compare key fingerprints with the sender by "
                "telephone before registering another key",
            ) from None


def seal(header: bytes, body: bytes, key: Ed25519PrivateKey) -> Sealed:
    """Sign header and body with the sender's key."""
    return Sealed(header, body, key.sign(message_digest(header, body)))


def message_digest(header: bytes, body: bytes) -> bytes:
    """The 32 bytes that a signature covers; lengths first, so that no byte can change sides."""
    digest = hashlib.sha256(_DOMAIN)
    digest.update(len(header).to_bytes(8, "little") + len(body).to_bytes(8, "little"))
    digest.update(header)
    digest.update(body)
    return digest.digest()
