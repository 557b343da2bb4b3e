"""A coordinator's home folder over a federation of real processes, and its watchdog's process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from loopback import INITIAL, Coordinator

from server.checkpoints.run_directory import RunDirectory
from server.config import CoordinatorConfig, CoordinatorFolder
from server.flower.deployment import Deployment
from server.rounds.settings import DriverSettings
from server.watchdog.command import is_watched
from server.watchdog.wanted import Wanted, read_wanted
from simulations.deployed.federation import LOOPBACK_DRIVER, DeployedFederation

COMMAND = [sys.executable, "-m", "server.cli"]
PATIENCE_S = 240.0


class WatchedHome:
    def __init__(self, coordinator: Coordinator, federation: DeployedFederation) -> None:
        self.coordinator = coordinator
        self.home = CoordinatorFolder(coordinator.folder / "home")
        self.home.authority.parent.mkdir(parents=True)
        self.home.runs.mkdir()
        shutil.copy(federation.authority, self.home.authority)
        port = int(federation.address.rpartition(":")[2])
        self.home.write_config(
            CoordinatorConfig(name="test", public_address="localhost:443", superlink_port=port)
        )
        self._watchdog: subprocess.Popen[bytes] | None = None

    def new_run(self, name: str, driver: DriverSettings = LOOPBACK_DRIVER) -> RunDirectory:
        path = self.home.runs / name
        run = RunDirectory.create(path, self.coordinator.plan, INITIAL, name)
        Deployment(
            coordinator_key=self.coordinator.folder / "coordinator.pem",
            site_keys=self.coordinator.folder / "site-keys",
            driver=driver,
        ).save(path)
        return run

    def start_watchdog(self) -> None:
        with (self.home.path / "watchdog.log").open("ab") as log:
            self._watchdog = subprocess.Popen(
                [*COMMAND, "watch", "--home", str(self.home.path), "--interval-s", "0.5"],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + PATIENCE_S
        while not is_watched(self.home):
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def kill_watchdog(self, number: signal.Signals = signal.SIGKILL) -> int:
        assert self._watchdog is not None
        os.kill(self._watchdog.pid, number)
        return self._watchdog.wait(30)

    def close(self) -> None:
        if self._watchdog is not None and self._watchdog.poll() is None:
            self.kill_watchdog()

    def say(
        self, *arguments: str, timeout_s: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """``smrfed-coordinator ARGUMENTS --home HOME``, as a process of its own."""
        return subprocess.run(
            [*COMMAND, *arguments, "--home", str(self.home.path)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def wait_for(self, run_dir: Path, true: Callable[[Wanted], bool], what: str) -> Wanted:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            wanted = read_wanted(run_dir)
            if wanted is not None and true(wanted):
                return wanted
            assert time.monotonic() < deadline, f"{what}: {wanted}; {self.log()}"
            time.sleep(0.2)

    def log(self) -> str:
        return (self.home.path / "watchdog.log").read_text()[-2000:]

    def events(self, run_dir: Path) -> list[dict[str, object]]:
        lines = (run_dir / "events.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]
