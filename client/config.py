"""The configuration of one hospital: ``site.toml``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
)

from client.agent.state import StateFolder
from client.archive.labels import ColumnNames, LabelMapping
from client.enrolment.connection import ConnectionFolder
from client.intake.options import IntakeOptions
from client.proxy import NetworkOptions
from client.site_path import SitePath
from shared_model.errors import SmrfedError
from shared_model.plan import SiteName


def _split_labels(value: object, info: ValidationInfo) -> object:
    """The words for each plan label, and those under ``exclude``."""
    if not isinstance(value, dict):
        return value
    rest = {name: words for name, words in value.items() if name != "exclude"}
    return {"values": rest, "exclude": value.get("exclude", ())}


class SiteConfig(BaseModel):
    """What a hospital tells its agent. Nothing in it ever leaves the hospital, except ``name``.

    Relative paths are relative to the folder of ``site.toml``; after :meth:`load` all are absolute.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: SiteName = Field(description="the hospital's name in plans")
    archive: SitePath = Field(description="BIDS folder, or DICOM files with [dicom]; only read")
    state_dir: SitePath = Field(description="key, ledger, receipts, prepared scans, models")
    coordinator_key: SitePath = Field(description="PEM file with the coordinator's public key")
    policy: SitePath = Field(description="policy.toml: what may be trained and may leave")
    socket: SitePath = Field(description="unix socket on which the agent serves its courier")
    socket_group: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")] | None = (
        Field(
            default=None,
            description="group that may use the socket, where the courier has its own account",
        )
    )
    connection_dir: SitePath | None = Field(
        default=None, description="node key and connection; default: state_dir/connection"
    )
    node_port: int = Field(
        default=9094, ge=1024, le=65535, description="loopback port between SuperNode and SuperExec"
    )
    network: NetworkOptions = Field(
        default_factory=NetworkOptions, description="the way out to the coordinator"
    )
    labels: Annotated[LabelMapping, BeforeValidator(_split_labels)] = Field(
        description="plan label = archive values; exclude = values that take no part"
    )
    columns: ColumnNames = Field(
        default_factory=ColumnNames, description="names of the tables' columns"
    )
    missing_images: Literal["error", "skip"] = Field(
        default="error", description="people in participants.tsv without an image"
    )
    missing_masks: Literal["error", "skip"] = Field(
        default="error", description="scans without a lesion mask, in plans about lesions"
    )
    dicom: IntakeOptions | None = Field(
        default=None, description="how DICOM files and the clinical table are read"
    )
    external_hashes: tuple[SitePath, ...] = Field(
        default=(), description="lists of digests of images that must not be trained or tested on"
    )
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$")] = Field(
        default="auto", description="auto takes a GPU if there is one"
    )
    threads: int = Field(default=1, ge=1, le=1024, description="processor threads for training")
    weights: SitePath | None = Field(
        default=None, description="folder with public initial weights (*.safetensors)"
    )

    @property
    def connection(self) -> ConnectionFolder:
        """What the hospital keeps of the federation that it joined."""
        return ConnectionFolder(self.connection_dir or StateFolder(self.state_dir).connection)

    @property
    def next_coordinator_key(self) -> Path:
        """The coordinator's next public key, once this hospital accepted it.

        Beside ``coordinator_key`` and not in the connection: whoever writes it decides whom the
        agent obeys, and the network part's account must not.
        """
        return self.coordinator_key.with_name(f"{self.coordinator_key.name}.next")

    @property
    def dataset(self) -> Path:
        """The BIDS dataset: the archive, or what the intake made of its DICOM files."""
        return self.archive if self.dicom is None else StateFolder(self.state_dir).intake

    @property
    def label_mapping(self) -> LabelMapping:
        """How the archive's tables are read."""
        return self.labels.model_copy(
            update={"columns": self.columns, "missing_images": self.missing_images}
        )

    @property
    def label_names(self) -> tuple[str, ...]:
        """The plan labels that this hospital maps to, in the file's order."""
        return tuple(self.labels.values)

    @property
    def weights_folders(self) -> tuple[Path, ...]:
        """Where to look for public weights before the usual places."""
        return () if self.weights is None else (self.weights,)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read ``site.toml``; raises SMR-E201 (unreadable) or SMR-E202 (a field is not valid)."""
        try:
            data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SmrfedError(
                "SMR-E201",
                f"cannot read the site's configuration {path}",
                expected="a TOML file; smrfed-site init writes one with comments",
                found=error,
                remedy="name the right file with --config, or correct the line",
            ) from None
        try:
            return cls.model_validate(data, context={"folder": path.absolute().parent})
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
            )
            raise SmrfedError(
                "SMR-E202",
                f"the site's configuration {path} is not valid",
                found=problems,
                remedy="correct these fields; docs/archive.md lists each with its meaning",
            ) from None
