"""The same agents and round driver under Flower's Ray engine: many sites, many cores or GPUs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from client.agent.agent import SiteAgent
from client.config import SiteConfig
from client.courier.envelope import pack, pack_error, unpack
from server.checkpoints.run_directory import RunDirectory
from server.flower.transport import ConnectedNode, FlowerTransport
from server.rounds.driver import RoundDriver, RunResult
from server.rounds.events import Observer
from server.rounds.settings import DriverSettings
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.sealed import Sealed
from simulations.deployed.environment import offline_process

_WHO = "who"
_WHO_TIMEOUT_S = 120.0


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
    site to any worker. That costs the reading of prepared scans and their tokens at each
    instruction. Ray is started for the run and stopped after it. Raises what :class:`RoundDriver`
    raises.
    """
    resources = settings or RaySettings()
    results: list[RunResult | BaseException] = []
    driver_settings = DriverSettings(
        poll_interval_s=0.1,
        retry_interval_s=1.0,
        # A site that waits for a free core is not silent, and must not be asked twice at once.
        silence_s=plan.federation.round_deadline_s,
    )

    def drive(grid: Grid, _context: Context) -> None:
        # Flower reports an exception here as a log line only: it is carried out and raised again.
        try:
            transport = _RayTransport(grid, len(site_configs))
            results.append(
                RoundDriver(
                    plan,
                    run_dir,
                    transport,
                    coordinator_key,
                    site_keys,
                    observer,
                    settings=driver_settings,
                ).run()
            )
        except BaseException as error:
            results.append(error)

    server_app = ServerApp()
    server_app.main()(drive)
    with tempfile.TemporaryDirectory(prefix="smrfed-ray-") as home, offline_process(Path(home)):
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
    """The site of a virtual node's partition; Ray pickles it, so it holds no agent."""

    def answer(message: Message, context: Context) -> Message:
        config = SiteConfig.load(site_configs[int(context.node_config["partition-id"])])
        if _WHO in message.content.config_records:
            name = RecordDict({_WHO: ConfigRecord({"site": config.name})})
            return Message(name, reply_to=message)
        try:
            content = pack(_handled(plan, config, message))
        except SmrfedError as error:
            content = pack_error(error.code)
        return Message(content, reply_to=message)

    app = ClientApp()
    app.query()(answer)
    return app


def _handled(plan: FederationPlan, config: SiteConfig, message: Message) -> Sealed:
    torch.set_num_threads(config.threads)
    agent = SiteAgent(config, plan)
    try:
        return agent.handle(unpack(message.content))
    finally:
        agent.close()


class _RayTransport(FlowerTransport):
    """Virtual nodes carry no site name, so each is asked for it once."""

    def __init__(self, grid: Grid, sites: int) -> None:
        super().__init__(grid)
        self._simulation = grid
        self._sites = sites
        self._found: dict[str, ConnectedNode] = {}

    def find_nodes(self) -> dict[str, ConnectedNode]:
        """The virtual nodes by the name of the site that they play."""
        if len(self._found) < self._sites:
            known = {node.id for node in self._found.values()}
            content = RecordDict({_WHO: ConfigRecord({})})
            replies = self._simulation.send_and_receive(
                [
                    Message(content, node, MessageType.QUERY)
                    for node in self._simulation.get_node_ids()
                    if node not in known
                ],
                timeout=_WHO_TIMEOUT_S,
            )
            for reply in replies:
                if not reply.has_error():
                    site = str(reply.content.config_records[_WHO]["site"])
                    self._found[site] = ConnectedNode(reply.metadata.src_node_id, "")
        return self._found
