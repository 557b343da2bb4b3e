"""A foreign app bundle gets nothing, at the coordinator or at a site; no secret is on show."""

from __future__ import annotations

import base64
import json
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from foreign_bundle import write_foreign_bundle
from loopback import SITES, Coordinator

from client.courier.refused_bundles import FILE_NAME, refused_bundles
from shared_model.supervision.environment import command
from simulations.deployed.federation import DeployedFederation

pytestmark = pytest.mark.deploy
LOOT = "the patients of this hospital"


def test_no_secret_is_in_a_process_list_or_a_log_while_a_run_goes_on(
    coordinator: Coordinator, federation: DeployedFederation
) -> None:
    files = [coordinator.folder / "coordinator.pem", federation.files.key, federation.files.secret]
    files += [coordinator.folder / f"{name}.pem" for name in SITES]
    for name in SITES:
        folder = federation.connection(name)
        files += [folder.node_key, folder.superexec_secret]
    groups = {child.pid for child in federation.processes.children}
    seen: set[str] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for process in psutil.process_iter():
                try:
                    seen.add(" ".join(process.cmdline()))
                except psutil.Error:
                    continue
            time.sleep(0.05)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        federation.run(coordinator.new_run("secrets").path, 200)
    finally:
        done.set()
        looking.join()
    # What was looked for was there to be seen: courier and ServerApp, each started with a token.
    assert any("client.courier.pinned" in line for line in seen)
    assert any("server.supervisor.pinned" in line for line in seen)
    assert not any("--token" in line.split() for line in seen)
    logs = [child.log.read_text(errors="replace") for child in federation.processes.children]
    assert groups
    assert any(logs)
    for file in files:
        for spelling in spellings(file):
            assert not any(spelling in line for line in seen), file
            assert not any(spelling in log for log in logs), file


def spellings(file: Path) -> list[str]:
    """How a secret might be written: as it is, hexadecimal, base64."""
    content = file.read_bytes()
    if content.startswith(b"-----"):
        return [line for line in content.decode().splitlines() if len(line) > 32]
    return [content.hex(), base64.b64encode(content).decode(), repr(content)[2:-1]]


def test_a_foreign_bundle_is_refused_by_the_coordinators_own_superexec(
    coordinator: Coordinator, federation: DeployedFederation
) -> None:
    folder = coordinator.folder / "foreign-at-coordinator"
    folder.mkdir()
    bundle = write_foreign_bundle(folder, coordinator.folder / "coordinator.pem")
    with federation.control() as control:
        run = control.start_run(bundle, folder)
        deadline = time.monotonic() + 120
        while not (status := control.run_status(run)).finished:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    assert not status.completed
    assert "SMR-E549" in status.details
    assert not (folder / "server-ran").exists()
    assert not (folder / "answers.json").exists()


def test_a_foreign_bundle_of_a_hostile_coordinator_gets_nothing_at_a_site(
    coordinator: Coordinator, federation: DeployedFederation
) -> None:
    run, answers = attack(coordinator, federation, "foreign-at-site")
    folder = coordinator.folder / "foreign-at-site"
    # Both sites answered both messages, and this is all that the hostile ServerApp got.
    assert len(answers) == 2 * len(SITES)
    assert {answer["error"]["code"] for answer in answers} == {"SMR-E470"}
    assert LOOT not in json.dumps(answers)
    assert not (folder / "client-ran").exists()
    for name in SITES:
        home = coordinator.folder / "work" / "flower" / name
        assert [path for path in home.rglob("*") if "evil" in path.name] == []
        noted = refused_bundles(federation.connection(name).path / FILE_NAME).read()
        assert len(noted) == 2
        assert {line.flower_run_id for line in noted} == {str(run)}
        assert "SMR-E470" in federation.processes[f"{name}-exec"].log.read_text()


@pytest.mark.slow
def test_flowers_own_superexec_would_have_given_it_the_file(
    coordinator: Coordinator, federation: DeployedFederation
) -> None:
    """That the attack works where nothing is pinned shows that the test above can fail."""
    north = federation.connection("north")
    federation.processes.start(
        "north-exec",
        [
            command("flower-superexec"),
            *("--runtime-api-address", f"127.0.0.1:{federation.node_port('north')}"),
            *("--insecure", "--superexec-auth-secret-file", str(north.superexec_secret)),
        ],
    )
    try:
        _, answers = attack(coordinator, federation, "foreign-at-plain-site")
    finally:
        federation.start_site_exec("north")
    assert LOOT in json.dumps(answers)
    assert (coordinator.folder / "foreign-at-plain-site" / "client-ran").exists()


def attack(
    coordinator: Coordinator, federation: DeployedFederation, name: str
) -> tuple[int, list[dict[str, Any]]]:
    """A coordinator that means harm starts a foreign run; what it learned from the sites."""
    folder = coordinator.folder / name
    folder.mkdir()
    loot = folder / "patients.txt"
    loot.write_text(LOOT)
    bundle = write_foreign_bundle(folder, loot)
    files = federation.files
    federation.processes.start(
        "superlink-exec",
        [
            command("flower-superexec"),
            *("--runtime-api-address", federation.address),
            *("--root-certificates", str(files.authority)),
            *("--superexec-auth-secret-file", str(files.secret)),
        ],
    )
    try:
        with federation.control() as control:
            run = control.start_run(bundle, folder)
            deadline = time.monotonic() + 250
            while not (status := control.run_status(run)).finished:
                assert time.monotonic() < deadline
                time.sleep(0.5)
    finally:
        federation.start_superlink_exec()
    assert status.completed, status.details
    assert (folder / "server-ran").exists()
    return run, json.loads((folder / "answers.json").read_text())
