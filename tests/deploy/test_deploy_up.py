"""``smrfed-coordinator up`` and ``smrfed-site up``: a run over what hospitals really start."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from loopback import SITES, Coordinator

from client.enrolment.connection import Connection, ConnectionFolder
from server.checkpoints.run_directory import RunDirectory
from server.config import CoordinatorConfig, CoordinatorFolder
from server.flower.control import ControlApi
from server.flower.fab import write_app_bundle
from server.supervisor.up import OPTIONAL
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import body_digest
from shared_model.protocol.keys import create_signing_key
from shared_model.supervision.environment import command
from shared_model.supervision.secret_file import ensure_secret
from shared_model.supervision.state_file import read_states
from simulations.deployed.pki import create_node_key, issue_server_certificate
from simulations.deployed.processes import free_ports

pytestmark = pytest.mark.deploy
# What a run needs; the others would look for ports that another test may use.
BARE = tuple(f"--without={name}" for name in OPTIONAL)
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


def until(condition: Callable[[], object], within_s: float = 150) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Started:
    """The commands of one coordinator and its hospitals, with stand-in agents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.coordinator = Coordinator(folder)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.port, *self.node_ports = free_ports(1 + len(SITES))
        self.home = self._coordinator_home()
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("FLWR_")}

    def _coordinator_home(self) -> CoordinatorFolder:
        home = CoordinatorFolder(self.folder / "home")
        (home.path / "pki").mkdir(parents=True)
        home.write_config(
            CoordinatorConfig(
                name="test", public_address=f"127.0.0.1:{self.port}", superlink_port=self.port
            )
        )
        issue_server_certificate(home.path / "pki")
        create_signing_key(home.signing_key)
        return home

    def join(self, name: str, port: int) -> Path:
        """What ``smrfed-site init`` and ``join`` leave; returns site.toml."""
        place = self.folder / name
        place.mkdir()
        sock = self.folder / f"{name}.sock"
        (place / "site.toml").write_text(_SITE.format(name=name, socket=sock, port=port))
        folder = ConnectionFolder(place / "state" / "connection")
        create_node_key(folder.node_key)
        shutil.copy(self.home.authority, folder.authority)
        bundle = write_app_bundle(self.folder / f"{name}-bundle")
        folder.save(
            Connection(
                site=name,
                superlink=f"127.0.0.1:{self.port}",
                coordinator="00",
                courier_sha256=(bundle.sha256,),
                protocol_version=1,
            )
        )
        return place / "site.toml"

    def start(self, name: str, *line: str) -> subprocess.Popen[bytes]:
        output = (self.folder / f"{name}.out").open("ab")
        self.processes[name] = subprocess.Popen(
            line, stdout=output, stderr=output, env=self.environment, cwd=self.folder
        )
        return self.processes[name]

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.out").read_text()

    def control(self) -> ControlApi:
        return ControlApi(f"127.0.0.1:{self.port}", self.home.authority)

    def online(self) -> frozenset[str]:
        try:
            with self.control() as control:
                return control.online_sites()
        except SmrfedError:  # the SuperLink is not back yet
            return frozenset()

    def end(self) -> None:
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@pytest.fixture(scope="module")
def started() -> Iterator[Started]:
    with tempfile.TemporaryDirectory(prefix="smrfed-") as folder:
        made = Started(Path(folder))
        try:
            up = command("smrfed-coordinator")
            made.start("coordinator", up, "up", "--home", str(made.home.path), *BARE)
            for site in made.coordinator.sites():
                made.start(f"{site.name}-agent", *site.agent_command)
            until(lambda: states(made.home.logs).get("superexec") == "running")
            for name, port in zip(SITES, made.node_ports, strict=True):
                config = made.join(name, port)
                key = config.parent / "state" / "connection" / "node.key.pub"
                with made.control() as control:
                    control.register_node(name, key)
                site_up = (command("smrfed-site"), "up", "--processes", "network")
                made.start(name, *site_up, "--config", str(config))
            until(lambda: made.online() == frozenset(SITES))
            yield made
        finally:
            made.end()


def states(folder: Path) -> dict[str, str]:
    return {s["name"]: s["state"] for s in read_states(folder / "processes.json")}


def pids(folder: Path) -> dict[str, int]:
    return {s["name"]: s["pid"] for s in read_states(folder / "processes.json")}


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def drive(started: Started, name: str) -> RunDirectory:
    run_dir = started.coordinator.new_run(name)
    with started.control() as control:
        run = control.start_run(write_app_bundle(started.folder / f"{name}-fab"), run_dir.path)
        deadline = time.monotonic() + 250
        while not (status := control.run_status(run)).finished:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    assert status.completed, status
    return RunDirectory.open(run_dir.path)


def test_a_run_goes_through_what_two_commands_started(started: Started) -> None:
    finished = drive(started, "up")
    assert body_digest(finished.latest().body) == started.coordinator.in_process.sha256
    network = started.folder / "north" / "state" / "connection" / "logs"
    assert states(network) == {"node": "running", "courier": "running"}
    assert "node         running (process" in started.said("north")
    # What they write and keep is for their account alone.
    for file in [*network.glob("*.log"), *started.home.logs.glob("*.log")]:
        assert file.stat().st_mode & 0o077 == 0, file
    assert started.home.superlink_database.parent.stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_a_killed_process_comes_back_and_the_run_goes_on(started: Started) -> None:
    logs = started.home.logs
    before = pids(logs)
    os.kill(before["superlink"], signal.SIGKILL)
    until(lambda: pids(logs).get("superlink") not in (None, before["superlink"]))
    assert pids(logs)["superexec"] == before["superexec"]
    until(lambda: started.online() == frozenset(SITES))
    finished = drive(started, "after-a-kill")
    assert body_digest(finished.latest().body) == started.coordinator.in_process.sha256


@pytest.mark.slow
def test_a_killed_supernode_is_taken_back_within_two_minutes(started: Started) -> None:
    """Flower refuses it for up to a minute; the supervisor asks on, and the answer counts."""
    logs = started.folder / "south" / "state" / "connection" / "logs"
    node = pids(logs)["node"]
    os.kill(node, signal.SIGKILL)
    until(lambda: pids(logs).get("node") not in (None, node))
    until(lambda: started.online() == frozenset(SITES), 180)
    finished = drive(started, "after-a-node")
    assert all(record.accepted == SITES for record in finished.latest().history)


def test_sigterm_ends_everything_in_order_and_kill_leaves_nothing(started: Started) -> None:
    """Last in this module: it ends the coordinator and one site."""
    network = started.folder / "north" / "state" / "connection" / "logs"
    ids = list(pids(network).values())
    process = started.processes["north"]
    process.terminate()
    assert process.wait(60) == 0
    assert not any(map(alive, ids))
    told = [line.split()[2:4] for line in started.said("north").splitlines()]
    assert told[-2:] == [["courier", "stopped"], ["node", "stopped"]]
    # It signed off: the next start is not refused.
    until(lambda: started.online() == frozenset({"south"}), 30)
    ids = list(pids(started.home.logs).values())
    assert len(ids) >= 2
    started.processes["coordinator"].kill()
    started.processes["coordinator"].wait()
    until(lambda: not any(map(alive, ids)), 30)


def start_refused(line: list[str], **variables: str) -> str:
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=120, env={**os.environ, **variables}
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("code", "spoil"),
    [
        ("SMR-E543", lambda home: home.signing_key.chmod(0o644)),
        ("SMR-E543", lambda home: home.certificate_key.unlink()),
        ("SMR-E544", lambda home: home.superexec_secret.write_bytes(b"guess me")),
        ("SMR-E545", lambda home: _config(home, public_address="fl.example.org:443")),
        ("SMR-E542", lambda home: _config(home, public_address="127.0.0.1:80")),
    ],
)
def test_an_unsafe_coordinator_does_not_start_and_says_why(
    tmp_path: Path, code: str, spoil: Callable[[CoordinatorFolder], object]
) -> None:
    home = CoordinatorFolder(tmp_path)
    (tmp_path / "pki").mkdir()
    _config(home)
    issue_server_certificate(tmp_path / "pki")
    create_signing_key(home.signing_key)
    ensure_secret(home.superexec_secret)
    spoil(home)
    said = start_refused([command("smrfed-coordinator"), "up", "--home", str(tmp_path)])
    assert code in said
    assert not home.superlink_database.exists()


def _config(home: CoordinatorFolder, public_address: str = "127.0.0.1:443") -> None:
    home.write_config(CoordinatorConfig(name="t", public_address=public_address))


def test_telemetry_that_is_forced_on_keeps_both_sides_from_starting(
    started: Started, tmp_path: Path
) -> None:
    up = [command("smrfed-coordinator"), "up", "--home", str(started.home.path)]
    assert "SMR-E546" in start_refused(up, FLWR_TELEMETRY_ENABLED="1")
    site = [command("smrfed-site"), "up", "--config", str(started.folder / "north" / "site.toml")]
    assert "SMR-E475" in start_refused(site, FLWR_TELEMETRY_ENABLED="1")


def test_an_unsafe_hospital_does_not_start_and_says_why(started: Started, tmp_path: Path) -> None:
    place = tmp_path / "south"
    shutil.copytree(started.folder / "south", place)
    line = [command("smrfed-site"), "up", "--processes", "network"]
    line += ["--config", str(place / "site.toml")]
    folder = ConnectionFolder(place / "state" / "connection")
    folder.node_key.chmod(0o640)
    assert "SMR-E473" in start_refused(line)
    folder.node_key.chmod(0o600)
    folder.superexec_secret.write_bytes(b"x")
    assert "SMR-E476" in start_refused(line)
    folder.file.unlink()
    assert "SMR-E460" in start_refused(line)


def test_the_state_file_is_json_for_other_commands(started: Started) -> None:
    content = json.loads((started.home.logs / "processes.json").read_text())
    assert {p["name"] for p in content["processes"]} >= {"superlink", "superexec"}
    assert sys.executable not in json.dumps(content)
