"""What a hospital knows of its coordinator after it joined: ``state/connection/``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from client.agent.durable import make_private_folder, write_durably
from shared_model.errors import SmrfedError
from shared_model.plan import Sha256, SiteName


class Connection(BaseModel):
    """The coordinator's address and the fingerprints that the hospital pinned; no secret in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
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
        """The connection.

        Raises SMR-E460 when the hospital has not joined or the file is damaged, and SMR-E467 when a
        newer smrfed wrote it.
        """
        try:
            data = tomllib.loads(self.file.read_text("utf-8"))
            _require_known(self.file, data)
            return Connection.model_validate(data)
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


def _require_known(file: Path, data: dict[str, Any]) -> None:
    """What is not understood may be a restriction, so it is not passed over."""
    unknown = sorted(data.keys() - Connection.model_fields.keys())
    version = data.get("format", 1)
    if unknown or version != 1:
        raise SmrfedError(
            "SMR-E467",
            f"{file} was written by another version of smrfed",
            expected="format 1",
            found=f"format {version}" + (f" with {', '.join(unknown)}" if unknown else ""),
            remedy="install the version that wrote it, or a newer one; keys and connection stay "
            "as they are",
        )
