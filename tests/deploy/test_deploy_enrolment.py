"""A new hospital joins a federation while a run goes on: two commands, and nobody is restarted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import SITES, STAND_IN, Coordinator
from nginx_front import NGINX, NginxFront

import simulations.deployed.federation as federation_module
from client.config import SiteConfig
from client.supervisor.commands import courier_exec_command, supernode_command
from server.checkpoints.run_directory import RunDirectory
from server.config import CoordinatorFolder
from server.flower.deployment import Deployment
from server.rounds.records import RoundRecord
from shared_model.plan import FederationPlan
from shared_model.protocol.keys import fingerprint, load_public_key, public_path
from shared_model.registry import default_groups
from simulations.deployed.environment import command, offline_environment
from simulations.deployed.federation import LOOPBACK_DRIVER, DeployedFederation
from simulations.deployed.pki import ServerCertificate
from simulations.deployed.processes import free_ports

pytestmark = [pytest.mark.deploy, pytest.mark.slow, pytest.mark.timeout(1800)]

_PATIENCE_S = 600.0
_INITIAL = {"reasoner.weight": np.zeros((30, 100), np.float32)}
_POLICY = """
modes = ["none"]
max_shared_parameters = 100_000_000
max_reply_bytes = 1_000_000_000
"""


class Home:
    """A coordinator's folder made and used by the real commands."""

    def __init__(self, path: Path) -> None:
        self.folder = CoordinatorFolder(path)
        (self.enrolment_port,) = free_ports(1)
        self.command("init", "--address", f"127.0.0.1:{self.enrolment_port}")
        self.settle()

    def settle(self, **ports: object) -> None:
        update = {"enrolment_port": self.enrolment_port, **ports}
        self.folder.write_config(self.folder.config.model_copy(update=update))

    def command(self, *arguments: str) -> Any:
        done = call("smrfed-coordinator", *arguments, "--home", str(self.folder.path), "--json")
        return json.loads(done)

    @property
    def certificate(self) -> ServerCertificate:
        return ServerCertificate(
            self.folder.authority, self.folder.certificate, self.folder.certificate_key
        )


def call(name: str, *arguments: str, fails: str | None = None) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [command(name), *arguments],
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        env=environment,
        check=False,
    )
    if fails is not None:
        assert done.returncode == 1
        assert fails in done.stderr
    else:
        assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def until(met: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not met():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.5)


@contextmanager
def public_side(home: Home, running: DeployedFederation, work: Path) -> Iterator[None]:
    """The enrolment service; behind the nginx of deploy/ where there is one, else with own TLS."""
    superlink_port = int(running.address.rpartition(":")[2])
    home.settle(superlink_port=superlink_port)
    service = [command("smrfed-coordinator"), "enrolment-service", "--home", str(home.folder.path)]
    if NGINX is None:
        running.processes.start("enrolment", [*service, "--tls"])
        yield
        return
    running.processes.start("enrolment", service)
    front = NginxFront(work / "nginx", home.certificate, superlink_port, home.enrolment_port)
    home.settle(superlink_port=superlink_port, public_address=f"127.0.0.1:{front.port}")
    with front:
        yield


@contextmanager
def one_authority(home: Home) -> Iterator[None]:
    """The SuperLink of the federation has the certificate of the coordinator's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(federation_module, "issue_server_certificate", lambda _: home.certificate)
        yield


def long_plan() -> FederationPlan:
    return FederationPlan.parse(
        {
            "name": "a run that goes on",
            "model": {"name": "smrnet", "config": {"width": 4}},
            "input": {"grid": {"spacing_mm": 4.0}},
            "groups": default_groups("smrnet").model_dump(),
            "privacy": {"mode": "none"},
            "training": {"rounds": 200},
            "federation": {
                "sites": [{"name": n, "declared_patients": 10} for n in SITES],
                "weighting": "declared_patients",
                "min_sites": len(SITES),
                "round_deadline_s": 120,
            },
        }
    )


def test_a_hospital_joins_a_running_run_and_nothing_is_restarted() -> None:
    with tempfile.TemporaryDirectory(prefix="smrfed-") as name:
        work = Path(name)
        home, coordinator = Home(work / "home"), Coordinator(work)
        run = RunDirectory.create(home.folder.runs / "study", long_plan(), _INITIAL, "study")
        Deployment(
            coordinator_key=home.folder.signing_key,
            site_keys=home.folder.site_keys,
            driver=LOOPBACK_DRIVER,
        ).save(run.path)
        know_coordinator(home, work)
        for site in SITES:
            (home.folder.site_keys / f"{site}.pub").write_bytes(
                public_path(work / f"{site}.pem").read_bytes()
            )
        with (
            one_authority(home),
            DeployedFederation(coordinator.sites(), work / "w") as running,
            public_side(home, running, work),
        ):
            running.submit(run.path)
            until(lambda: run.latest().round >= 1, "first round")
            before = {child.name: child.pid for child in running.processes.children}
            join_and_take_part(home, running, run, work)
            after = {child.name: child.pid for child in running.processes.children}
            assert before.items() <= after.items()
            assert all(child.running for child in running.processes.children)
            leave(home, running, run)
            come_back(home, work)


def join_and_take_part(
    home: Home, running: DeployedFederation, run: RunDirectory, work: Path
) -> None:
    invited = home.command("invite", "west", "--run", "study", "--patients", "5")
    config_file = work / "west" / "site.toml"
    call("smrfed-site", "init", str(config_file.parent), "--name", "west")
    (config_file.parent / "policy.toml").write_text(_POLICY)
    joined = json.loads(
        call("smrfed-site", "join", invited["token"], "-c", str(config_file), "--yes", "--json")
    )
    # Both ends show the same, and the hospital accepted the plan that was announced.
    coordinator_key = load_public_key(public_path(home.folder.signing_key))
    assert joined["its_signing_key"] == invited["signing_key"] == fingerprint(coordinator_key)
    assert joined["plan_digest"] == invited["plan_digest"] != run.plan.digest
    (known,) = [s for s in home.command("sites") if s["site"] == "west"]
    assert (known["state"], known["signing_key"]) == ("enrolled", joined["signing_key"])
    site = SiteConfig.load(config_file)
    know_coordinator(home, site.state_dir)
    start_site(site, running, work)
    until(lambda: any("west" in r.accepted for r in history(run)), "reply of the new site")
    first = next(r for r in history(run) if "west" in r.accepted)
    assert first.accepted == (*SITES, "west")
    assert (first.weight, history(run)[0].weight) == (25, 20)


def leave(home: Home, running: DeployedFederation, run: RunDirectory) -> None:
    call("smrfed-coordinator", "revoke", "west", "--home", str(home.folder.path))
    at = run.latest().round
    until(lambda: run.latest().round >= at + 3, "rounds after the revocation")
    assert history(run)[-1].accepted == SITES
    assert "west" not in history(run)[-1].sites
    with running.control() as control:
        until(lambda: control.online_sites() == set(SITES), "end of the revoked node")


def come_back(home: Home, work: Path) -> None:
    """A node key that was unregistered is never taken again: another one joins."""
    token = home.command("invite", "west", "--run", "study", "--patients", "5")["token"]
    arguments = ["join", token, "-c", str(work / "west" / "site.toml"), "--yes", "--json"]
    call("smrfed-site", *arguments, fails="SMR-E464")
    call("smrfed-site", *arguments, "--new-keys")
    assert next(s for s in home.command("sites") if s["site"] == "west")["state"] == "enrolled"


def public_address(site: SiteConfig, running: DeployedFederation) -> str:
    """Where the kit says that the coordinator is; without nginx only the service is there."""
    return running.address if NGINX is None else site.connection.load().superlink


def know_coordinator(home: Home, folder: Path) -> None:
    """Stand-in agents look for the coordinator's key beside their own."""
    (folder / "coordinator.pem.pub").write_bytes(public_path(home.folder.signing_key).read_bytes())


def history(run: RunDirectory) -> tuple[RoundRecord, ...]:
    return run.latest().history


def start_site(site: SiteConfig, running: DeployedFederation, work: Path) -> None:
    """What ``smrfed-site up`` starts, with an agent that stands in for the real one."""
    socket, port = work / "west.sock", free_ports(1)[0]
    key = site.state_dir / "site.key"
    (work / "west.started").touch()
    running.processes.start(
        "west-agent",
        (
            *(sys.executable, str(STAND_IN), "west", str(socket), str(key)),
            str(work / "west.started"),
        ),
    )
    environment = offline_environment(work / "west-flower")
    running.processes.start(
        "west-node",
        supernode_command(site.connection, public_address(site, running), port, socket),
        environment,
    )
    running.processes.start("west-exec", courier_exec_command(site.connection, port), environment)
