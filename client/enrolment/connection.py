"""What a hospital knows of its coordinator after it joined: ``state/connection/``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from client.agent.durable import make_private_folder, write_durably
from shared_model.errors import SmrfedError
from shared_model.plan import Sha256, SiteName


class Connection(BaseModel):
    """The coordinator's address and the fingerprints that the hospital pinned; no secret in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: SiteName
    superlink: str = Field(description="host:port of the coordinator, reached outbound over TLS")
    coordinator: str = Field(description="fingerprint of the coordinator's signing key")
    courier_sha256: tuple[Sha256, ...] = Field(
        description="app bundles that may run at this hospital; every other one is refused"
    )
    protocol_version: int = Field(ge=1)


@dataclass(frozen=True)
class ConnectionFolder:
    """The files of a joined hospital; made by ``smrfed-site join``."""

    path: Path

    @property
    def file(self) -> Path:
        """The :class:`Connection` as TOML."""
        return self.path / "connection.toml"

    @property
    def authority(self) -> Path:
        """Certificate of the coordinator's certificate authority (PEM)."""
        return self.path / "ca.crt"

    @property
    def node_key(self) -> Path:
        """The SuperNode's private ECDSA key; its public half lies beside it (``.pub``)."""
        return self.path / "node.key"

    @property
    def superexec_secret(self) -> Path:
        """Secret shared by this hospital's SuperNode and SuperExec."""
        return self.path / "superexec.secret"

    def load(self) -> Connection:
        """The connection; raises SMR-E460 when the hospital has not joined, or it is damaged."""
        try:
            return Connection.model_validate(tomllib.loads(self.file.read_text("utf-8")))
        except (OSError, ValueError, ValidationError) as error:
            raise SmrfedError(
                "SMR-E460",
                "this hospital has not joined a federation, or its connection is damaged",
                expected=self.file,
                found=error,
                remedy="ask the coordinator for a token, then: smrfed-site join TOKEN",
            ) from None

    def save(self, connection: Connection) -> None:
        """Write the connection durably."""
        make_private_folder(self.path)
        data = connection.model_dump(mode="json", exclude_none=True)
        write_durably(self.file, tomli_w.dumps(data).encode())
