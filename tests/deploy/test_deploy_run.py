"""A run over real Flower processes gives the bits of the run in-process, also after a crash."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from loopback import SITES, Coordinator
from typer.testing import CliRunner

from server.flower.cli import app as flower
from server.rounds.events import Event
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import body_digest
from simulations.deployed.environment import command, offline_environment
from simulations.deployed.federation import DeployedFederation
from simulations.deployed.pki import create_node_key, issue_server_certificate
from simulations.deployed.processes import ProcessSet, free_ports

pytestmark = pytest.mark.deploy


@pytest.mark.slow
def test_a_deployed_run_equals_the_same_run_in_process(
    coordinator: Coordinator, federation: DeployedFederation
) -> None:
    events: list[Event] = []
    finished = federation.run(coordinator.new_run("deployed").path, 120, events.append)
    state = finished.latest()
    assert state.round == coordinator.plan.training.rounds
    assert all(record.accepted == SITES for record in state.history)
    assert body_digest(state.body) == coordinator.in_process.sha256
    told = finished.finalised()
    assert told is not None
    assert told.accepted == SITES
    assert [e.round for e in events if e.kind == "round_saved"] == [1, 2]
    assert events[-1].kind == "run_finished"


@pytest.mark.slow
def test_a_killed_serverapp_resumes_to_the_same_bits(
    coordinator: Coordinator, federation: DeployedFederation
) -> None:
    run_dir = coordinator.new_run("killed-serverapp").path
    where = ["--superlink", federation.address, "--root-certificates", str(federation.authority)]
    keys = ["--key", str(coordinator.folder / "coordinator.pem")]
    keys += ["--site-keys", str(coordinator.folder / "site-keys")]
    assert operate("online", *where) == sorted(SITES)
    started = operate("start", str(run_dir), *keys, *where)
    wait_for_round(run_dir, 1)
    kill_server_app(federation)
    # Flower would notice within a minute; the operator need not wait for it.
    operate("stop", str(started["flower_run_id"]), *where)
    finished = federation.resume(run_dir, 120)
    assert body_digest(finished.latest().body) == coordinator.in_process.sha256
    for site in SITES:
        computed = coordinator.started(site).read_text().split("\n")
        assert computed.count("killed-serverapp train 1") == 1
        assert computed.count("killed-serverapp train 2") == 1


def test_why_a_serverapp_failed_reaches_the_operator(
    coordinator: Coordinator, federation: DeployedFederation
) -> None:
    run_dir = coordinator.new_run("without-keys").path
    (run_dir / "deployment.toml").unlink()
    with pytest.raises(SmrfedError, match="SMR-E555") as failed:
        federation.run(run_dir, 60)
    assert failed.value.code == "SMR-E557"


@pytest.mark.slow
def test_a_killed_superlink_restarts_and_the_run_ends_in_the_same_bits(
    coordinator: Coordinator, federation: DeployedFederation
) -> None:
    run_dir = coordinator.new_run("killed-superlink").path

    def crash() -> None:
        wait_for_round(run_dir, 1)
        federation.processes["superlink"].kill()
        time.sleep(5)
        federation.start_superlink()

    killer = threading.Thread(target=crash)
    killer.start()
    finished = federation.run(run_dir, 180)
    killer.join()
    assert body_digest(finished.latest().body) == coordinator.in_process.sha256


@pytest.mark.slow
def test_a_node_that_restarts_with_an_instruction_in_hand_gets_it_again(
    coordinator: Coordinator, federation: DeployedFederation
) -> None:
    run_dir = coordinator.new_run("slow").path
    events: list[Event] = []

    def restart() -> None:
        while "slow train 1" not in coordinator.started("north").read_text():
            time.sleep(0.1)
        federation.processes.stop(["north-node"])
        federation.start_node(coordinator.sites()[0])

    restarting = threading.Thread(target=restart)
    restarting.start()
    # Flower itself would wait for the round's deadline, which is at 120 s.
    finished = federation.run(run_dir, 100, events.append)
    restarting.join()
    assert body_digest(finished.latest().body) == coordinator.in_process.sha256
    retried = [event for event in events if event.kind == "site_retried"]
    assert {event.site for event in retried} == {"north"}
    # Whichever the coordinator notices first: the node away, or the node back.
    reasons = " ".join(str(event.reason) for event in retried)
    assert "reconnected" in reasons or "Flower error 5" in reasons


def test_a_node_with_an_unregistered_key_is_refused(
    coordinator: Coordinator, federation: DeployedFederation
) -> None:
    key = coordinator.folder / "stranger"
    create_node_key(key)
    log = start_node(federation, federation.authority, key, coordinator.folder / "stranger-logs")
    assert "Failed to activate SuperNode" in log
    with federation.control() as control:
        assert control.online_sites() == frozenset(SITES)


def test_a_superlink_with_a_certificate_of_another_authority_is_refused(
    coordinator: Coordinator, federation: DeployedFederation
) -> None:
    other = issue_server_certificate(coordinator.folder / "other-pki").authority
    key = federation.connection(SITES[0]).node_key
    log = start_node(federation, other, key, coordinator.folder / "other-logs")
    assert "CERTIFICATE_VERIFY_FAILED" in log


def start_node(federation: DeployedFederation, authority: Path, key: Path, logs: Path) -> str:
    """Start a SuperNode that cannot join; what it says until it gives up."""
    with ProcessSet(logs, offline_environment(logs / "home")) as processes:
        node = processes.start(
            "node",
            [
                command("flower-supernode"),
                *("--superlink", federation.address, "--max-retries", "0"),
                *("--root-certificates", str(authority), "--port", str(free_ports(1)[0])),
                *("--auth-supernode-private-key", str(key), "--isolation", "process"),
                *("--superexec-auth-secret-file", str(federation.authority)),
            ],
        )
        processes.wait_until(lambda: not node.running, "the end of the node", 60)
        assert node.exit_status != 0
        return node.log.read_text()


def operate(*arguments: str) -> Any:
    """Run ``smrfed-coordinator flower ARGUMENTS``; what it printed."""
    result = CliRunner().invoke(flower, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if result.stdout else None


def kill_server_app(federation: DeployedFederation) -> None:
    superexec = psutil.Process(federation.processes["superlink-exec"].pid)
    (server_app,) = (c for c in superexec.children() if c.status() != psutil.STATUS_ZOMBIE)
    assert "flwr-serverapp" in " ".join(server_app.cmdline())
    server_app.kill()


def wait_for_round(run_dir: Path, number: int) -> None:
    deadline = time.monotonic() + 100
    while not (run_dir / "rounds" / f"{number:05d}").is_dir():
        assert time.monotonic() < deadline
        time.sleep(0.1)
