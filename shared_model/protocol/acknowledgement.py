"""What the coordinator signs for a reply that it received: the counter-signature of a receipt."""

from __future__ import annotations

import json
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared_model.errors import SmrfedError
from shared_model.plan import Sha256, SiteName

_DOMAIN = b"smrfed-acknowledgement-v1\0"
_Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]


class Received(BaseModel):
    """One reply as the coordinator got it; ``code`` says why it was not accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str = Field(max_length=63)
    round: int = Field(ge=1, le=1_000_000)
    kind: str = Field(max_length=16)
    site: SiteName
    reply_sha256: Sha256 = Field(description="digest of the reply's header and body together")
    accepted: bool
    code: Annotated[str, StringConstraints(pattern=r"^SMR-E\d{3}$")] | None = None

    @property
    def canonical_json(self) -> bytes:
        """The fields of a :class:`Received`, sorted and compact; what is signed."""
        fields = {name: getattr(self, name) for name in Received.model_fields}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


class Acknowledgement(Received):
    """A reply's receipt, signed by the coordinator, so that it stands without the message it came
    in. Ed25519 is deterministic: the same reply gives the same bytes again.
    """

    signature: _Signature = Field(description="Ed25519, hexadecimal")

    def verify(self, key: Ed25519PublicKey) -> None:
        """Raise SMR-E366 when the coordinator's key did not sign these fields."""
        try:
            key.verify(bytes.fromhex(self.signature), _DOMAIN + self.canonical_json)
        except InvalidSignature:
            raise SmrfedError(
                "SMR-E366",
                "an acknowledgement is not signed by the coordinator",
                expected="a signature over what the coordinator received",
                found=f"round {self.round} ({self.kind}) of run {self.run_id}",
                remedy="treat it as forged, and compare key fingerprints with the coordinator",
            ) from None


def countersign(received: Received, key: Ed25519PrivateKey) -> Acknowledgement:
    """Sign for a reply."""
    signature = key.sign(_DOMAIN + received.canonical_json).hex()
    return Acknowledgement(**received.model_dump(), signature=signature)
