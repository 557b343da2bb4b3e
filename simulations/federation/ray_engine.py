"""The same agents and round driver under Flower's Ray engine: many sites, several GPUs, a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from client.agent.agent import SiteAgent
from client.config import SiteConfig
from client.courier.envelope import pack, pack_error, unpack
from server.checkpoints.run_directory import RunDirectory
from server.flower.transport import FlowerTransport
from server.rounds.driver import RoundDriver, RunResult
from server.rounds.events import Observer
from server.rounds.settings import DriverSettings
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan

_WHO = "who"


@dataclass(frozen=True)
class RaySettings:
    """What each simulated site may use; Ray runs as many sites at once as fit."""

    cpus_per_site: int = 1
    gpus_per_site: float = 0.0


def run_under_ray(
    plan: FederationPlan,
    site_configs: tuple[Path, ...],
    run_dir: RunDirectory,
    coordinator_key: Ed25519PrivateKey,
    site_keys: Mapping[str, Ed25519PublicKey],
    observer: Observer | None = None,
    settings: RaySettings | None = None,
) -> RunResult:
    """Drive a run directory to its end with one Ray task per instruction.

    Gives the same bits as the in-process federation: replies are summed exactly, and each agent
    works from its own state folder, opened for one instruction at a time because Ray may hand a
    site to any worker. Raises what :class:`RoundDriver` raises.
    """
    resources = settings or RaySettings()
    results: list[RunResult | BaseException] = []
    server_app = ServerApp()

    @server_app.main()
    def drive(grid: Grid, _context: Context) -> None:
        # Flower reports an exception here as a log line only: it is carried out and raised again.
        try:
            results.append(
                RoundDriver(
                    plan,
                    run_dir,
                    _RayTransport(grid, len(site_configs)),
                    coordinator_key,
                    site_keys,
                    observer,
                    settings=DriverSettings(poll_interval_s=0.1, retry_interval_s=1.0),
                ).run()
            )
        except BaseException as error:
            results.append(error)

    run_simulation(
        server_app,
        _client_app(plan, site_configs),
        num_supernodes=len(site_configs),
        backend_config={
            "client_resources": {
                "num_cpus": resources.cpus_per_site,
                "num_gpus": resources.gpus_per_site,
            }
        },
    )
    (result,) = results
    if isinstance(result, BaseException):
        raise result
    return result


def _client_app(plan: FederationPlan, site_configs: tuple[Path, ...]) -> ClientApp:
    app = ClientApp()

    @app.query()
    def answer(message: Message, context: Context) -> Message:
        config = SiteConfig.load(site_configs[int(context.node_config["partition-id"])])
        if _WHO in message.content.config_records:
            return Message(RecordDict({_WHO: ConfigRecord({"site": config.name})}), reply_to=message)
        try:
            agent = SiteAgent(config, plan)
            try:
                return Message(pack(agent.handle(unpack(message.content))), reply_to=message)
            finally:
                agent.close()
        except SmrfedError as error:
            return Message(pack_error(error.code), reply_to=message)

    return app


class _RayTransport(FlowerTransport):
    """Virtual nodes carry no site name, so each is asked for it once."""

    def __init__(self, grid: Grid, sites: int) -> None:
        super().__init__(grid)
        self._sites = sites
        self._ids: dict[str, int] = {}

    def node_ids(self) -> dict[str, int]:
        """Node id of every site."""
        if len(self._ids) < self._sites:
            content = RecordDict({_WHO: ConfigRecord({})})
            nodes = list(self._grid.get_node_ids())
            replies = self._grid.send_and_receive(
                [Message(content, node, MessageType.QUERY) for node in nodes]
            )
            for reply in replies:
                if not reply.has_error():
                    site = str(reply.content.config_records[_WHO]["site"])
                    self._ids[site] = reply.metadata.src_node_id
        return self._ids
