"""A hospital's network part in an account that can read neither archive, state nor signing key."""

from __future__ import annotations

import grp
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from loopback import SITES
from test_deploy_up import BARE, Started, drive, pids, states, until

from shared_model.protocol.arrays import body_digest
from shared_model.supervision.environment import command

ACCOUNT = 61234
pytestmark = [
    pytest.mark.deploy,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start the other account"),
]


def as_account(*line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        line, user=ACCOUNT, group=ACCOUNT, extra_groups=[], cwd=folder, text=True,
        capture_output=True, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip


def installation_is_readable() -> bool:
    try:
        return (
            as_account(sys.executable, "-c", "import client, flwr", folder=Path("/")).returncode
            == 0
        )
    except PermissionError:  # not even the interpreter
        return False


class TwoAccounts(Started):
    """The first hospital's network part has an account of its own, and a group for the socket."""

    group = next(g for g in grp.getgrall() if g.gr_gid not in (0, os.getgid()))

    def separate(self, config: Path) -> Path:
        """Give the connection to the other account; returns its folder."""
        place = config.parent
        network = self.folder / "network"
        (place / "state" / "connection").rename(network)
        for path in [network, *network.rglob("*")]:
            os.chown(path, ACCOUNT, ACCOUNT)
        text = config.read_text().replace("[labels]", f'connection_dir = "{network}"\n[labels]')
        config.write_text(text)
        config.chmod(0o644)
        place.chmod(0o711)
        (place / "state").chmod(0o700)
        (place / "state" / "ledger.sqlite").write_text("what was spent")
        return network

    def start_as_account(self, name: str, *line: str) -> None:
        output = (self.folder / f"{name}.out").open("ab")
        self.processes[name] = subprocess.Popen(
            line, stdout=output, stderr=output, cwd="/", user=ACCOUNT, group=ACCOUNT,
            extra_groups=[self.group.gr_gid],
            env={**self.environment, "HOME": str(self.folder / "network")},
        )  # fmt: skip


@pytest.fixture(scope="module")
def started() -> Iterator[TwoAccounts]:
    with tempfile.TemporaryDirectory(prefix="smrfed-") as path:
        folder = Path(path)
        if not installation_is_readable():
            pytest.skip("another account cannot read this installation")
        made = TwoAccounts(folder)
        try:
            up = command("smrfed-coordinator")
            made.start("coordinator", up, "up", "--home", str(made.home.path), *BARE)
            for site in made.coordinator.sites():
                group = [made.group.gr_name] if site.name == SITES[0] else []
                made.start(f"{site.name}-agent", *site.agent_command, *group)
            until(lambda: states(made.home.logs).get("superexec") == "running")
            for name, port in zip(SITES, made.node_ports, strict=True):
                config = made.join(name, port)
                with made.control() as control:
                    key = config.parent / "state" / "connection" / "node.key.pub"
                    control.register_node(name, key)
                line = [command("smrfed-site"), "up", "--processes", "network"]
                line += ["--config", str(config)]
                if name == SITES[0]:
                    made.separate(config)
                    made.start_as_account(name, *line)
                else:
                    made.start(name, *line)
            until(lambda: made.online() == frozenset(SITES))
            yield made
        finally:
            made.end()


def test_a_run_goes_through_the_shared_socket(started: TwoAccounts) -> None:
    finished = drive(started, "two-accounts")
    assert body_digest(finished.latest().body) == started.coordinator.in_process.sha256
    running = pids(started.folder / "network" / "logs")
    assert set(running) == {"node", "courier"}
    assert {psutil.Process(pid).uids().real for pid in running.values()} == {ACCOUNT}


def test_the_network_account_reads_nothing_of_the_agents(started: TwoAccounts) -> None:
    ledger = started.folder / SITES[0] / "state" / "ledger.sqlite"
    key = started.folder / f"{SITES[0]}.pem"
    for file in (ledger, key):
        assert file.exists()
        tried = as_account(str(shutil.which("cat")), str(file), folder=Path("/"))
        assert tried.returncode != 0
        assert "Permission denied" in tried.stderr
