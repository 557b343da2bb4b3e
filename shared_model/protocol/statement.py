"""What a coordinator received in a run, as one signed file that a hospital can hold against its own
receipts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared_model.errors import SmrfedError
from shared_model.plan import Sha256, SiteName
from shared_model.protocol.acknowledgement import Received

_DOMAIN = b"smrfed-statement-v1\0"
_MAX_BYTES = 64 << 20


class Statement(BaseModel):
    """The replies of one run, of one site or of all; ``head`` is the newest link of the chain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    run_id: str
    plan_digest: Sha256
    site: SiteName | None = Field(description="the only site in it; none: all sites")
    written_at: str = Field(description="UTC, ISO 8601")
    receipts: int = Field(ge=0, description="lines in the coordinator's chain")
    head: Sha256
    received: tuple[Received, ...]
    signature: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{128})?$")] = ""

    def signed(self, key: Ed25519PrivateKey) -> Statement:
        """The same statement with the coordinator's signature."""
        return self.model_copy(update={"signature": key.sign(self._content).hex()})

    def encode(self) -> bytes:
        """The file."""
        return self.model_dump_json(indent=1).encode() + b"\n"

    @property
    def _content(self) -> bytes:
        fields = self.model_dump(mode="json", exclude={"signature"})
        return _DOMAIN + json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def load(cls, path: Path, key: Ed25519PublicKey) -> Statement:
        """Read a statement; raises SMR-E367 when it cannot be read or ``key`` did not sign it."""
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise _unusable(path, f"more than {_MAX_BYTES} bytes")
            statement = cls.model_validate_json(path.read_bytes())
            key.verify(bytes.fromhex(statement.signature), statement._content)
        except (OSError, ValueError, ValidationError, RecursionError) as error:
            raise _unusable(path, f"{type(error).__name__}: {error}"[:300]) from None
        except InvalidSignature:
            raise _unusable(path, "a signature that is not the coordinator's") from None
        return statement


def _unusable(path: Path, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E367",
        f"{path} is not the coordinator's statement of what it received",
        expected="the file of smrfed-coordinator receipts --export, signed by the known key",
        found=found,
        remedy="ask the coordinator for the file again; compare key fingerprints by telephone",
    )
