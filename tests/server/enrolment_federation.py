"""A coordinator that serves enrolment over real TLS on loopback, and hospitals that join it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from client.agent.state import StateFolder
from client.commands.first_steps import init as init_site
from client.config import SiteConfig
from client.enrolment.connection import Connection
from client.enrolment.joining import Joining
from server.config import CoordinatorConfig, CoordinatorFolder
from server.enrolment.authority import create_authority
from server.enrolment.enroller import Enroller
from server.enrolment.invite import invite
from server.enrolment.registry import Registry
from server.enrolment.service import EnrolmentServer
from shared_model.enrolment.token import JoinToken
from shared_model.errors import SmrfedError
from shared_model.protocol.keys import load_or_create_signing_key
from simulations.deployed.processes import free_ports

COURIER = "ab" * 32


@dataclass
class Nodes:
    """Stands for the SuperLink, which the deploy test has for real: registers, and may be away."""

    known: dict[int, tuple[str, str]] = field(default_factory=dict)
    gone: list[int] = field(default_factory=list)
    away: bool = False

    def register(self, site: str, node_key: str) -> int:
        if self.away:
            raise SmrfedError("SMR-E550", "the SuperLink is away", remedy="wait")
        for node_id, known in self.known.items():
            if known == (site, node_key):
                return node_id
        self.known[len(self.known) + 1] = (site, node_key)
        return len(self.known)

    def unregister(self, node_id: int) -> None:
        self.gone.append(node_id)


@dataclass
class Federation:
    folder: CoordinatorFolder
    nodes: Nodes
    enroller: Enroller
    work: Path

    @property
    def registry(self) -> Registry:
        return Registry(self.folder.registry)

    def token(self, site: str = "north", valid_s: int = 600, **options: object) -> JoinToken:
        return invite(self.folder, site, valid_s=valid_s, **options).token  # type: ignore[arg-type]

    def hospital(self, name: str = "north", folder: str | None = None) -> SiteConfig:
        path = self.work / (folder or name)
        if not path.exists():
            init_site(path, name, True)
        return SiteConfig.load(path / "site.toml")

    def join(self, config: SiteConfig, token: JoinToken) -> Connection:
        joining = Joining.begin(config, token)
        offer = joining.look()
        return joining.join(joining.node_key(), joining.plan(offer), offer)


@contextmanager
def federation(work: Path) -> Iterator[Federation]:
    port = free_ports(1)[0]
    folder = CoordinatorFolder(work / "coordinator")
    folder.path.mkdir(parents=True)
    folder.write_config(
        CoordinatorConfig(name="test consortium", public_address=f"127.0.0.1:{port}")
    )
    create_authority(folder)
    load_or_create_signing_key(folder.signing_key)
    nodes = Nodes()
    enroller = Enroller(folder, nodes, (COURIER,))
    with serving(folder, enroller, port):
        yield Federation(folder, nodes, enroller, work)


@contextmanager
def serving(
    folder: CoordinatorFolder, enroller: Enroller, port: int, host: str = "127.0.0.1"
) -> Iterator[EnrolmentServer]:
    files = (str(folder.certificate), str(folder.certificate_key))
    with EnrolmentServer(enroller, (host, port), files) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def signing_key(config: SiteConfig) -> Path:
    return StateFolder(config.state_dir).key
