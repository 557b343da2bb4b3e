"""The coordinator's configuration, ``coordinator.toml``, and where everything lies beside it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared_model.errors import SmrfedError

CONFIG_FILE = "coordinator.toml"

Address = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:]+\]):\d{1,5}$")
]
Port = Annotated[int, Field(ge=1024, le=65535)]


class CoordinatorConfig(BaseModel):
    """What ``coordinator.toml`` holds; all ports are of loopback, behind the reverse proxy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200, description="the consortium, for people")
    public_address: Address = Field(description="host:port that sites connect to, outbound")
    superlink_port: Port = Field(default=18000, description="Flower's SuperLink, on loopback")
    enrolment_port: Port = Field(default=18001, description="enrolment service, on loopback")
    dashboard_port: Port = Field(default=18002, description="dashboard, on loopback")
    metrics_port: Port = Field(default=18003, description="Prometheus metrics, on loopback")

    @property
    def public_host(self) -> str:
        """Host of :attr:`public_address`, the name in the server's certificate."""
        return self.public_address.rpartition(":")[0].strip("[]")

    @property
    def superlink_address(self) -> str:
        """``127.0.0.1:PORT``: where the coordinator's own commands reach the SuperLink."""
        return f"127.0.0.1:{self.superlink_port}"


class CoordinatorFolder:
    """The coordinator's folder: its configuration, and the path of each thing that it keeps.

    Nothing here creates a file. Raises SMR-E590 for a ``coordinator.toml`` that is missing or wrong
    at :attr:`config`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def config(self) -> CoordinatorConfig:
        """The configuration, read anew."""
        file = self.path / CONFIG_FILE
        try:
            return CoordinatorConfig.model_validate(tomllib.loads(file.read_text("utf-8")))
        except (OSError, ValueError, ValidationError) as error:
            raise SmrfedError(
                "SMR-E590",
                f"cannot read the coordinator's configuration {file}",
                expected="a TOML file; smrfed-coordinator init writes one",
                found=error,
                remedy="name the coordinator's folder with --home, or correct the file",
            ) from None

    def write_config(self, config: CoordinatorConfig) -> None:
        """Write ``coordinator.toml``."""
        text = tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
        (self.path / CONFIG_FILE).write_text(text, encoding="utf-8")

    @property
    def authority(self) -> Path:
        """Certificate of the certificate authority (PEM), public."""
        return self.path / "pki" / "ca.crt"

    @property
    def authority_key(self) -> Path:
        """Private key of the certificate authority (mode 0600)."""
        return self.path / "pki" / "ca.key"

    @property
    def certificate(self) -> Path:
        """The server's TLS certificate (PEM), for the public host, localhost and 127.0.0.1."""
        return self.path / "pki" / "server.crt"

    @property
    def certificate_key(self) -> Path:
        """Private key of :attr:`certificate`."""
        return self.path / "pki" / "server.key"

    @property
    def signing_key(self) -> Path:
        """Ed25519 key that signs instructions; its public half lies beside it (``.pub``)."""
        return self.path / "coordinator.pem"

    @property
    def registry(self) -> Path:
        """SQLite: sites, their keys, invitations, and what became of them."""
        return self.path / "registry.sqlite"

    @property
    def site_keys(self) -> Path:
        """``SITE.pub`` of every enrolled site, written from the registry."""
        return self.path / "site-keys"

    @property
    def superexec_secret(self) -> Path:
        """Secret shared by SuperLink and SuperExec."""
        return self.path / "pki" / "superexec.secret"

    @property
    def superlink_database(self) -> Path:
        """Flower's SQLite database."""
        return self.path / "flower" / "superlink.db"

    @property
    def flower_home(self) -> Path:
        """``FLWR_HOME`` of the coordinator's Flower processes."""
        return self.path / "flower" / "home"

    @property
    def runs(self) -> Path:
        """Run directories, one folder each."""
        return self.path / "runs"

    @property
    def logs(self) -> Path:
        """Log files of the coordinator's processes."""
        return self.path / "logs"
