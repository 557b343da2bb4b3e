"""The messages of the enrolment service: JSON over a TLS connection that the site has pinned.

A request is authenticated by the secret of an open invitation (``look``, ``join``) or by the
signature of an enrolled site (``news``, ``rotate``). Answers need no signature: the connection is
the coordinator's, by the authority whose fingerprint the token or the connection folder holds.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_public_key,
)
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared_model.enrolment.addendum import Addendum
from shared_model.enrolment.token import Secret
from shared_model.enrolment.versions import SPOKEN
from shared_model.plan import Sha256, SiteName

#: Path prefix of the service, below the coordinator's address.
ENROLMENT_PATH = "/smrfed/enrol/"
#: Bytes of a request or an answer.
MAX_MESSAGE_BYTES = 64 << 10
#: Seconds by which the clocks of the two ends may differ.
CLOCK_TOLERANCE_S = 300

RawKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
NodeKey = Annotated[str, StringConstraints(pattern=r"^ecdsa-sha2-nistp384 [A-Za-z0-9+/=]{1,400}$")]
_Ed25519 = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{128})?$")]
_Ecdsa = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{16,256})?$")]
_Nonce = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
_Versions = Annotated[tuple[int, ...], Field(min_length=1, max_length=64)]


class _Message(BaseModel):
    # What a newer version adds is no harm in what is only read; who must understand it, says so by
    # its protocol version.
    model_config = ConfigDict(frozen=True, extra="ignore")


class LookRequest(_Message):
    """What does the invitation offer?"""

    secret: Secret = Field(repr=False)
    site: SiteName
    protocol_versions: _Versions = SPOKEN


class Offer(_Message):
    """What a hospital reads, and decides on, before it says who it is."""

    federation: str = Field(max_length=200)
    coordinator_key: RawKey
    courier_sha256: tuple[Sha256, ...] = Field(max_length=16)
    protocol_versions: _Versions = SPOKEN
    plan: dict[str, Any] | None = Field(default=None, description="the plan of the run")
    addendum: Addendum | None = Field(default=None, description="where the plan lacks the site")


class _Signed(_Message):
    """A request with fresh time and nonce; the proofs cover everything else."""

    site: SiteName
    protocol_versions: _Versions = SPOKEN
    asked_at: int = Field(default_factory=lambda: int(time.time()), ge=0, lt=2**40)
    nonce: _Nonce = Field(default_factory=lambda: secrets.token_hex(16))
    signature: _Ed25519 = Field(default="", description="by the site's (old) signing key")
    node_proof: _Ecdsa = Field(default="", description="by the (new) node key")
    signing_proof: _Ed25519 = Field(default="", description="by a new signing key")

    @property
    def content(self) -> bytes:
        """What the proofs are over."""
        proofs = {"signature", "node_proof", "signing_proof"}
        fields = {"message": type(self).__name__, **self.model_dump(mode="json", exclude=proofs)}
        data = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return b"smrfed-enrolment-v1\0" + data.encode()

    def signed_by(self, key: Ed25519PublicKey) -> bool:
        """Whether ``signature`` is that key's."""
        return _holds(key, self.signature, self.content)


class JoinRequest(_Signed):
    """A hospital's public keys, with proof that it holds the private ones."""

    secret: Secret = Field(repr=False)
    node_key: NodeKey
    signing_key: RawKey
    plan_digest: Sha256 | None = Field(default=None, description="of the plan that it accepted")

    def proven(self, signing: Ed25519PrivateKey, node: ec.EllipticCurvePrivateKey) -> JoinRequest:
        """The request with both proofs."""
        return self.model_copy(
            update={
                "signature": signing.sign(self.content).hex(),
                "node_proof": node.sign(self.content, ec.ECDSA(hashes.SHA384())).hex(),
            }
        )

    def proofs_hold(self) -> bool:
        """Whether the sender holds both private keys."""
        signing = self.signed_by(public_key_of(self.signing_key))
        return signing and node_proof_holds(self.node_key, self.node_proof, self.content)


class Welcome(_Message):
    """What a hospital needs to connect."""

    authority: str = Field(max_length=8192, description="the CA's certificate (PEM)")
    coordinator_key: RawKey
    courier_sha256: tuple[Sha256, ...] = Field(max_length=16)
    protocol_version: int = Field(ge=1)


class NewsRequest(_Signed):
    """What is new? ``accepted``: the coordinator key that the site trusts next, if one."""

    accepted: RawKey | None = None


class RotateRequest(_Signed):
    """New keys in place of the old ones; signed by the signing key that is registered."""

    node_key: NodeKey | None = None
    signing_key: RawKey | None = None

    def proofs_hold(self) -> bool:
        """Whether the sender holds the private half of every new key."""
        node = self.node_key is None or node_proof_holds(
            self.node_key, self.node_proof, self.content
        )
        signing = self.signing_key is None or _holds(
            public_key_of(self.signing_key), self.signing_proof, self.content
        )
        return node and signing


class Refusal(_Message):
    """Why the coordinator does not do what it was asked, for a person to read."""

    code: Annotated[str, StringConstraints(pattern=r"^SMR-E\d{3}$")]
    what: str = Field(max_length=500)
    found: str | None = Field(default=None, max_length=500)
    remedy: str | None = Field(default=None, max_length=500)
    kind: Literal["refusal"] = "refusal"


def raw_hex(key: Ed25519PublicKey) -> str:
    """The 32 bytes of an Ed25519 public key in hexadecimal digits."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def public_key_of(raw: str) -> Ed25519PublicKey:
    """The key of :func:`raw_hex`."""
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(raw))


def node_key_line(key: ec.EllipticCurvePublicKey) -> str:
    """A node's public key in the OpenSSH format, without a comment."""
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def node_proof_holds(node_key: str, proof: str, content: bytes) -> bool:
    """Whether the holder of the node's private key signed ``content``."""
    try:
        key = load_ssh_public_key(node_key.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        key.verify(bytes.fromhex(proof), content, ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, ValueError):
        return False
    return True


def _holds(key: Ed25519PublicKey, signature: str, content: bytes) -> bool:
    try:
        key.verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):
        return False
    return True
