"""A coordinator's new signing key, vouched for by the one that the hospitals know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared_model.enrolment.messages import RawKey, public_key_of, raw_hex
from shared_model.plan import Sha256

_DOMAIN = b"smrfed-key-change-v1\0"
_Signature = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{128})?$")]


class KeyChange(BaseModel):
    """``old`` says that ``new`` follows it; ``new`` says that it is there, by its own signature."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    old: RawKey
    new: RawKey
    announced_at: str = Field(max_length=40, description="UTC, ISO 8601")
    old_signature: _Signature = ""
    new_signature: _Signature = ""

    @classmethod
    def announce(
        cls, old: Ed25519PrivateKey, new: Ed25519PrivateKey, announced_at: str
    ) -> KeyChange:
        """The statement with both signatures."""
        bare = cls(
            old=raw_hex(old.public_key()), new=raw_hex(new.public_key()), announced_at=announced_at
        )
        return bare.model_copy(
            update={
                "old_signature": old.sign(bare._content).hex(),
                "new_signature": new.sign(bare._content).hex(),
            }
        )

    @property
    def new_key(self) -> Ed25519PublicKey:
        """The key that follows."""
        return public_key_of(self.new)

    def follows(self, known: Ed25519PublicKey) -> bool:
        """Whether ``known`` signed this statement as the old key, and the new key as itself."""
        if self.old != raw_hex(known):
            return False
        try:
            known.verify(bytes.fromhex(self.old_signature), self._content)
            self.new_key.verify(bytes.fromhex(self.new_signature), self._content)
        except (InvalidSignature, ValueError):
            return False
        return True

    @property
    def _content(self) -> bytes:
        fields = self.model_dump(mode="json", exclude={"old_signature", "new_signature"})
        return _DOMAIN + json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def successor(
    known: Ed25519PublicKey, changes: Sequence[KeyChange], wanted: str
) -> Ed25519PublicKey | None:
    """The key ``wanted`` (raw, hexadecimal) if an unbroken line of changes leads to it."""
    key = known
    for change in changes:
        if raw_hex(key) == wanted:
            break
        if change.follows(key):
            key = change.new_key
    return key if raw_hex(key) == wanted else None


class News(BaseModel):
    """What the coordinator tells an enrolled site that asks."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    coordinator_key: RawKey
    key_changes: tuple[KeyChange, ...] = Field(
        default=(), max_length=100, description="oldest first; the last may be announced only"
    )
    courier_sha256: tuple[Sha256, ...] = Field(max_length=16)
    protocol_versions: tuple[int, ...] = Field(min_length=1, max_length=64)
