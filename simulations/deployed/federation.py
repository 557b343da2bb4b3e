"""A whole federation as real processes on loopback: TLS, node authentication, agents, couriers.

::

    superlink            TLS, node authentication, SQLite, --isolation process
    superlink-exec       starts flwr-serverapp, one per run
    SITE-agent           the hospital's agent on its unix socket
    SITE-node            flower-supernode: its node key, no data
    SITE-exec            starts flwr-clientapp, the courier, one per message
"""

from __future__ import annotations

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from client.config import SiteConfig
from client.enrolment.connection import Connection, ConnectionFolder
from client.supervisor.commands import agent_command, courier_exec_command, supernode_command
from server.checkpoints.run_directory import RunDirectory
from server.flower.control import ControlApi, RunStatus
from server.flower.event_log import EventFollower
from server.flower.fab import write_app_bundle
from server.rounds.events import Observer
from server.rounds.settings import DriverSettings
from server.supervisor.commands import SuperLinkFiles, superexec_command, superlink_command
from shared_model.errors import SmrfedError
from shared_model.supervision.secret_file import ensure_secret
from simulations.deployed.environment import offline_environment
from simulations.deployed.pki import create_node_key, issue_server_certificate
from simulations.deployed.processes import ProcessSet, free_ports

#: Patience of a coordinator whose sites are on the same machine: nothing is worth a long wait.
LOOPBACK_DRIVER = DriverSettings(
    poll_interval_s=0.2, retry_interval_s=1.0, attempt_pause_s=2.0, absent_grace_s=30.0
)

_START_S = 120.0
_STATUS_INTERVAL_S = 1.0
_LOST_SUPERLINK_S = 60.0


@dataclass(frozen=True)
class DeployedSite:
    """One hospital on this machine: the name in the plan, and how its agent is started.

    Args:
        name: as in the plan, and as its node key is registered.
        socket: unix socket on which the agent listens once it is ready.
        agent_command: the agent, in the foreground.
    """

    name: str
    socket: Path
    agent_command: tuple[str, ...]

    @classmethod
    def from_config(cls, config: Path) -> DeployedSite:
        """The site of a ``site.toml``, with the agent that a hospital runs."""
        site = SiteConfig.load(config)
        return cls(site.name, site.socket, agent_command(config))


class DeployedFederation:
    """Real Flower processes of a coordinator and its sites; a context manager that leaves none.

    Entering starts everything and waits until every site is connected; :meth:`run` drives a run
    directory to its end, and :meth:`resume` does so again after a failure. Entering raises SMR-E553
    or SMR-E554 with the end of the log that matters.

    Args:
        sites: the sites that take part.
        work: folder for keys, logs and Flower's state; made when missing.
    """

    def __init__(self, sites: Sequence[DeployedSite], work: Path) -> None:
        self._sites = tuple(sites)
        self._work = work.resolve()
        self.processes = ProcessSet(self._work / "logs", offline_environment(self._home("cli")))
        self.start_up_s = 0.0
        self._run_id: int | None = None

    def __enter__(self) -> DeployedFederation:
        self.processes.__enter__()
        try:
            begin = time.monotonic()
            self._start()
            self.start_up_s = time.monotonic() - begin
        except BaseException as error:
            self.processes.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            # SuperNodes sign off at the SuperLink, so they go first.
            names = [site.name for site in self._sites]
            self.processes.stop([f"{name}-exec" for name in names])
            self.processes.stop([f"{name}-node" for name in names])
            self.processes.stop([*(f"{name}-agent" for name in names), "superlink-exec"])
        finally:
            self.processes.__exit__(kind, error, traceback)

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT`` of the SuperLink."""
        return f"127.0.0.1:{self._port}"

    @property
    def authority(self) -> Path:
        """PEM file of the certificate authority that the SuperLink's certificate comes from."""
        return self._server.authority

    def connection(self, site: str) -> ConnectionFolder:
        """What a site keeps of its joining: node key, secret, allowed bundle."""
        return ConnectionFolder(self._work / "connections" / site)

    def node_port(self, site: str) -> int:
        """Loopback port on which a site's SuperNode waits for its SuperExec."""
        return self._node_ports[site]

    def control(self) -> ControlApi:
        """A new connection to the SuperLink's Control API."""
        return ControlApi(self.address, self.authority)

    def run(
        self, run_dir: Path, timeout_s: float, observer: Observer | None = None
    ) -> RunDirectory:
        """Drive a run directory, new or half-done, to its end; it then holds the final parameters.

        The directory comes from :meth:`RunDirectory.create` and holds a ``deployment.toml``.
        ``observer`` is called with the driver's events, as if the driver ran in this process.
        Raises SMR-E557 when the run fails, SMR-E554 when it takes longer than ``timeout_s``
        seconds, SMR-E550 when the SuperLink stays away for a minute.
        """
        events = EventFollower(run_dir)
        run_id = self.submit(run_dir)
        deadline = time.monotonic() + timeout_s
        while True:
            status = self._status(run_id)
            for event in events.new():
                if observer is not None:
                    observer(event)
            if status.finished:
                break
            if time.monotonic() > deadline:
                raise _too_slow(timeout_s, self._work / "logs")
            time.sleep(_STATUS_INTERVAL_S)
        if not status.completed:
            raise SmrfedError(
                "SMR-E557",
                "the deployed run failed; its finished rounds are saved",
                found=f"{status.sub_status}: {status.details}",
                remedy=f"settle the cause, then resume; logs are in {self._work / 'logs'}",
            )
        return RunDirectory.open(run_dir)

    # A Flower run cannot go on; a new one on the same directory does.
    resume = run

    def submit(self, run_dir: Path) -> int:
        """Start a Flower run on a run directory; :meth:`run` also waits for its end."""
        with self.control() as control:
            # Flower may take a minute to see that a ServerApp was killed; we need not wait for it.
            if self._run_id is not None and not control.run_status(self._run_id).finished:
                control.stop_run(self._run_id)
            self._run_id = control.start_run(self._bundle, run_dir)
            return self._run_id

    def start_superlink(self) -> None:
        """Start the SuperLink (again, on the same port and database) and wait until it answers."""
        self.processes.start(
            "superlink",
            superlink_command(self.files, self._port),
            {"FLWR_HOME": str(self._home("superlink"))},
        )
        url = f"https://{self.address}/health"
        trust = ssl.create_default_context(cafile=str(self.authority))
        self.processes.wait_until(
            lambda: _answers(url, trust), "the SuperLink's answer", _START_S, ["superlink"]
        )

    def start_superlink_exec(self) -> None:
        """Start the coordinator's SuperExec (again)."""
        self._start_exec("superlink", superexec_command(self.files, self._port))

    def start_site_exec(self, site: str) -> None:
        """Start a site's SuperExec (again)."""
        self._start_exec(site, courier_exec_command(self.connection(site), self._node_ports[site]))

    def start_node(self, site: DeployedSite) -> None:
        """Start a site's SuperNode (again, with the same key and port)."""
        self.processes.start(
            f"{site.name}-node",
            supernode_command(
                self.connection(site.name), self.address, self._node_ports[site.name], site.socket
            ),
            {"FLWR_HOME": str(self._home(site.name))},
        )

    def _start(self) -> None:
        self._server = issue_server_certificate(self._work / "pki")
        self._port, *ports = free_ports(1 + len(self._sites))
        self._node_ports = {s.name: port for s, port in zip(self._sites, ports, strict=True)}
        self._bundle = write_app_bundle(self._work)
        ensure_secret(self.files.secret)
        self._public_node_keys = {site.name: self._join(site.name) for site in self._sites}
        # Agents import torch, which takes longest; they come up while Flower does.
        for site in self._sites:
            site.socket.unlink(missing_ok=True)
            self.processes.start(f"{site.name}-agent", site.agent_command)
        self.start_superlink()
        self.start_superlink_exec()
        with self.control() as control:
            for site in self._sites:
                control.register_node(site.name, self._public_node_keys[site.name])
                self.start_node(site)
            for site in self._sites:
                self.start_site_exec(site.name)
            names = [site.name for site in self._sites]
            self.processes.wait_until(
                lambda: control.online_sites().issuperset(names),
                "all SuperNodes online",
                _START_S,
                ["superlink", *(f"{name}-node" for name in names)],
            )
        for site in self._sites:
            self.processes.wait_until(
                site.socket.is_socket, f"the agent of {site.name}", _START_S, [f"{site.name}-agent"]
            )

    def _start_exec(self, name: str, run: Sequence[str]) -> None:
        self.processes.start(f"{name}-exec", run, {"FLWR_HOME": str(self._home(name))})

    def _join(self, name: str) -> Path:
        """What ``smrfed-site join`` leaves at a hospital; the public half of its node key."""
        folder = self.connection(name)
        public = create_node_key(folder.node_key)
        ensure_secret(folder.superexec_secret)
        folder.authority.write_bytes(self.authority.read_bytes())
        folder.save(
            Connection(
                site=name,
                superlink=self.address,
                coordinator="0000",
                courier_sha256=(self._bundle.sha256,),
                protocol_version=1,
            )
        )
        return public

    def _status(self, run_id: int) -> RunStatus:
        begin = time.monotonic()
        while True:
            try:
                with self.control() as control:
                    return control.run_status(run_id)
            except SmrfedError:
                if time.monotonic() - begin > _LOST_SUPERLINK_S:
                    raise
                time.sleep(_STATUS_INTERVAL_S)

    def _home(self, name: str) -> Path:
        return self._work / "flower" / name

    @property
    def files(self) -> SuperLinkFiles:
        """Keys, secret and database of the SuperLink."""
        server, pki = self._server, self._work / "pki"
        database, secret = self._work / "superlink.db", pki / "superlink.secret"
        return SuperLinkFiles(server.authority, server.certificate, server.key, database, secret)


def _answers(url: str, trust: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2.0, context=trust) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def _too_slow(timeout_s: float, logs: Path) -> SmrfedError:
    return SmrfedError(
        "SMR-E554",
        f"the run did not end within {timeout_s:g} s",
        remedy=f"read the logs in {logs}; wait longer, or resume later: finished rounds are saved",
    )
