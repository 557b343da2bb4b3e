"""A federation under the supervisors that hospitals use, with agents without torch.

::

    coordinator    smrfed-coordinator up   SuperLink, SuperExec, enrolment, watchdog, ...
    SITE           smrfed-site up          stand-in agent, SuperNode, SuperExec with the courier

The supervisors themselves are kept by :class:`SupervisedFederation`, as systemd would keep them.
Nothing else ever acts: what is killed comes back by itself, or the run does not end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from client.agent.state import StateFolder
from client.config import SiteConfig
from client.enrolment.connection import Connection, ConnectionFolder
from client.privacy.ledger import Ledger
from client.privacy.ledger_entries import LedgerEntry
from server.checkpoints.run_directory import RunDirectory
from server.config import CoordinatorFolder
from server.flower.control import ControlApi
from server.flower.deployment import Deployment
from server.flower.fab import write_app_bundle
from server.rounds.settings import DriverSettings
from server.supervisor.up import OPTIONAL
from server.watchdog.wanted import Wanted, read_wanted
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays
from shared_model.protocol.keys import create_signing_key, public_path
from simulations.deployed import hasty_supervisor, stand_in
from simulations.deployed.environment import offline_environment
from simulations.deployed.federation import LOOPBACK_DRIVER
from simulations.deployed.pki import create_node_key
from simulations.deployed.processes import ProcessSet, free_ports

INITIAL: Arrays = {
    "head.weight": np.linspace(-1, 1, 3000, dtype=np.float32).reshape(30, 100),
    "head.bias": np.zeros(3, np.float32),
}
_RESTART_S = 2.0
_LOOK_S = 0.3
_SITE = """
name = "{name}"
archive = "archive"
state_dir = "state"
coordinator_key = "coordinator.pub"
policy = "policy.toml"
socket = "{socket}"
node_port = {port}
[labels]
CN = ["CN"]
"""
_POLICY = """
max_epsilon = 1000.0
max_delta = 1e-5
modes = ["local", "distributed", "central"]
"""


def toy_plan(
    sites: Sequence[str], rounds: int, *, min_sites: int, deadline_s: float, noise: float = 1.0
) -> FederationPlan:
    """Mode ``local``: every round is charged to the sites' ledgers, and its length is bounded."""
    return FederationPlan.parse(
        {
            "name": "toy",
            "privacy": {"mode": "local", "epsilon": 100.0, "noise_multiplier": noise},
            "training": {"rounds": rounds},
            "federation": {
                "sites": [{"name": n, "declared_patients": 10} for n in sites],
                "min_sites": min_sites,
                "round_deadline_s": deadline_s,
            },
        }
    )


@dataclass(frozen=True)
class SupervisedSite:
    """One hospital's folder."""

    name: str
    folder: Path

    @property
    def config(self) -> Path:
        """``site.toml``."""
        return self.folder / "site.toml"

    @property
    def state(self) -> StateFolder:
        """What the hospital keeps."""
        return StateFolder(self.folder / "state")

    @property
    def connection(self) -> ConnectionFolder:
        """What it keeps of its joining."""
        return ConnectionFolder(self.state.connection)

    def notes(self) -> list[str]:
        """What the agent did, one line each: ``computing RUN KIND ROUND`` or ``answered ...``."""
        path = self.folder / "notes.txt"
        return path.read_text().splitlines() if path.exists() else []

    def computed(self, run_id: str, number: int) -> int:
        """How often the agent began to train a round."""
        return self.notes().count(f"computing {run_id} train {number}")

    def behave(self, **switches: object) -> None:
        """How the stand-in behaves from its next instruction on."""
        new = self.folder / ".switches"
        new.write_text(json.dumps(switches))
        new.replace(self.folder / "switches.json")

    def charges(self) -> tuple[LedgerEntry, ...]:
        """Every reservation of the hospital's ledger."""
        return Ledger(self.state.ledger).entries()


class SupervisedFederation:
    """Both ``up`` commands over real processes; a context manager that leaves none.

    Args:
        folder: short path (sockets), made when missing.
        plan: whose sites are started.
        agent: the script that a site runs instead of the agent with torch.
        without: optional processes of the coordinator that are not started.
        wrap: site -> words before its command, such as ``ip netns exec NAME``.
        host: what sites connect to, and the server's certificate is for.
        signing_keys: folder with ``SITE.key`` and its public half for every site, for a plan that
            names the sites' keys; none: keys are made.
        before_start: called when all folders are made and nothing runs yet.
    """

    def __init__(
        self,
        folder: Path,
        plan: FederationPlan,
        *,
        agent: Path = Path(stand_in.__file__),
        without: Sequence[str] = ("enrolment-service", "dashboard", "metrics"),
        wrap: Mapping[str, Sequence[str]] | None = None,
        host: str = "127.0.0.1",
        signing_keys: Path | None = None,
        before_start: Callable[[SupervisedFederation], object] = lambda _: None,
    ) -> None:
        self.folder = folder.resolve()
        self.plan = plan
        self.home = CoordinatorFolder(self.folder / "home")
        self._agent = agent
        self._without = tuple(without)
        self._wrap = dict(wrap or {})
        self._host = host
        self._signing_keys = signing_keys
        self._before_start = before_start
        names = [site.name for site in plan.federation.sites]
        self.sites = {name: SupervisedSite(name, self.folder / name) for name in names}
        self._environment = offline_environment(self.folder / "cli")
        self.processes = ProcessSet(self.folder / "out", self._environment)
        self._keeping = threading.Event()
        self._keeper: threading.Thread | None = None
        self._paused: set[str] = set()

    def __enter__(self) -> SupervisedFederation:
        self.processes.__enter__()
        try:
            self._make_home()
            for number, site in enumerate(self.sites.values()):
                self._make_site(site, self._ports[number])
            self._before_start(self)
            self.start("coordinator")
            self._wait(lambda: bool(self._registered()), "the SuperLink")
            for name in self.sites:
                self.start(name)
            self._keeper = threading.Thread(target=self._keep, daemon=True)
            self._keeper.start()
            self._wait(lambda: self.online() == set(self.sites), "all sites online")
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._keeping.set()
        if self._keeper is not None:
            self._keeper.join()
        try:
            # Sites sign off first; a grace for what they end themselves.
            self.processes.stop([*self.sites], grace_s=45.0)
            self.processes.stop(["coordinator"], grace_s=45.0)
        finally:
            self.processes.__exit__(kind, error, traceback)

    def start(self, name: str) -> None:
        """Start a supervisor: the coordinator's, or a site's."""
        script = str(Path(hasty_supervisor.__file__))
        line = [sys.executable, "-P", script]
        if name == "coordinator":
            line += ["coordinator", "-", "up", "--home", str(self.home.path)]
            line += [f"--without={one}" for one in self._without if one in OPTIONAL]
        else:
            line += ["site", str(self._agent), "up", "--config", str(self.sites[name].config)]
        self.processes.start(name, [*self._wrap.get(name, ()), *line])

    def leave_down(self, name: str) -> None:
        """Do not start this supervisor again once it has ended."""
        self._paused.add(name)

    def keep_up(self, name: str) -> None:
        """Start it again, now and whenever it ends."""
        self._paused.discard(name)

    def new_run(self, name: str, driver: DriverSettings = LOOPBACK_DRIVER) -> RunDirectory:
        """A run of the federation's plan that nobody wants yet."""
        path = self.home.runs / name
        run = RunDirectory.create(path, self.plan, INITIAL, name)
        Deployment(
            coordinator_key=self.home.signing_key, site_keys=self.home.site_keys, driver=driver
        ).save(path)
        return run

    def want(self, run: RunDirectory) -> None:
        """What the operator says once: ``smrfed-coordinator run RUN --detach``."""
        said = subprocess.run(
            [sys.executable, "-P", "-m", "server.cli", "run", str(run.path), "--detach",
             "--home", str(self.home.path)],
            capture_output=True, text=True, timeout=300, check=False,
            env={**os.environ, **self._environment},
        )  # fmt: skip
        if said.returncode:
            raise RuntimeError(said.stderr + said.stdout)

    def wait_finished(self, run: RunDirectory, timeout_s: float) -> RunDirectory:
        """Until nobody has anything to do for the run; it must have finished."""
        deadline = time.monotonic() + timeout_s
        while True:
            wanted = self.wanted(run)
            if not wanted.open:
                break
            if time.monotonic() > deadline:
                tail = self.events(run)[-12:]
                raise TimeoutError(f"{run.run_id} after {timeout_s:g} s: {wanted}; {tail}")
            time.sleep(_LOOK_S)
        if wanted.state != "finished":
            raise RuntimeError(f"{run.run_id}: {wanted}")
        return RunDirectory.open(run.path)

    def wanted(self, run: RunDirectory) -> Wanted:
        """What the watchdog knows of a run."""
        wanted = read_wanted(run.path)
        if wanted is None:
            raise RuntimeError("the run was never wanted")
        return wanted

    def events(self, run: RunDirectory) -> list[dict[str, object]]:
        """The run's events so far."""
        path = run.path / "events.jsonl"
        if not path.exists():
            return []
        whole = path.read_bytes().rpartition(b"\n")[0].splitlines()
        return [json.loads(line) for line in whole]

    def online(self) -> set[str]:
        """Sites that the SuperLink takes for connected."""
        try:
            with self.control() as control:
                return set(control.online_sites())
        except SmrfedError:
            return set()

    def control(self) -> ControlApi:
        """A connection to the SuperLink."""
        return ControlApi(self.home.config.superlink_address, self.home.authority)

    def _keep(self) -> None:
        """What systemd does: a supervisor that ended is started again."""
        ended: dict[str, float] = {}
        while not self._keeping.wait(0.2):
            for name in ("coordinator", *self.sites):
                if name in self._paused or self.processes[name].running:
                    ended.pop(name, None)
                elif time.monotonic() - ended.setdefault(name, time.monotonic()) > _RESTART_S:
                    self.start(name)

    def _make_home(self) -> None:
        superlink, enrolment, dashboard, metrics, *self._ports = free_ports(4 + len(self.sites))
        address = f"{self._host}:{superlink}"
        subprocess.run(
            [sys.executable, "-P", "-m", "server.cli", "init", "--address", address,
             "--home", str(self.home.path)],
            check=True, stdout=subprocess.DEVNULL, timeout=300,
        )  # fmt: skip
        update = {
            "superlink_port": superlink, "enrolment_port": enrolment,
            "dashboard_port": dashboard, "metrics_port": metrics,
        }  # fmt: skip
        self.home.write_config(self.home.config.model_copy(update=update))
        for folder in (self.home.runs, self.home.site_keys):
            folder.mkdir(exist_ok=True)
        self._bundle = write_app_bundle(self.folder / "bundle").sha256
        self.superlink_port = superlink

    def _make_site(self, site: SupervisedSite, port: int) -> None:
        site.folder.mkdir()
        text = _SITE.format(name=site.name, socket=self.folder / f"{site.name}.sock", port=port)
        site.config.write_text(text)
        (site.folder / "policy.toml").write_text(_POLICY)
        (site.folder / "archive").mkdir()
        plan = self.plan.model_dump(mode="json", exclude_none=True)
        (site.folder / "plan.json").write_text(json.dumps(plan))
        shutil.copy(public_path(self.home.signing_key), site.folder / "coordinator.pub")
        SiteConfig.load(site.config)
        site.state.path.mkdir(mode=0o700)
        if self._signing_keys is None:
            create_signing_key(site.state.key)
        else:
            made = self._signing_keys / f"{site.name}.key"
            shutil.copy(made, site.state.key)
            shutil.copy(public_path(made), public_path(site.state.key))
        shutil.copy(public_path(site.state.key), self.home.site_keys / f"{site.name}.pub")
        create_node_key(site.connection.node_key)
        shutil.copy(self.home.authority, site.connection.authority)
        site.connection.save(
            Connection(
                site=site.name,
                superlink=f"{self._host}:{self.superlink_port}",
                coordinator="0000",
                courier_sha256=(self._bundle,),
                protocol_version=1,
            )
        )

    def _registered(self) -> set[str]:
        """Admit the node keys as soon as the SuperLink answers."""
        try:
            with self.control() as control:
                for site in self.sites.values():
                    key = site.connection.node_key
                    control.register_node(site.name, key.with_name(key.name + ".pub"))
        except SmrfedError:
            return set()
        return set(self.sites)

    def _wait(self, ready: Callable[[], bool], what: str, timeout_s: float = 240.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            if time.monotonic() > deadline:
                logs = {name: self.processes[name].log_tail() for name in ("coordinator",)}
                raise TimeoutError(f"{what}: not within {timeout_s:g} s; {logs}")
            time.sleep(_LOOK_S)
