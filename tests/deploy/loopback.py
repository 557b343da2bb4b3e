"""A small federation of real processes with stand-in agents, and the same run in-process."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from stand_in_agent import answer

from server.checkpoints.run_directory import RunDirectory
from server.flower.deployment import Deployment
from server.rounds.driver import RoundDriver, RunResult
from server.rounds.settings import DriverSettings
from shared_model.plan import FederationPlan
from shared_model.protocol.keys import create_signing_key, load_signing_key, public_path
from shared_model.protocol.sealed import Sealed
from simulations.deployed.federation import LOOPBACK_DRIVER, DeployedSite
from simulations.federation.in_process import InProcessTransport

STAND_IN = Path(__file__).with_name("stand_in_agent.py")
SITES = ("north", "south")
INITIAL = {
    "head.weight": np.linspace(-1, 1, 3000, dtype=np.float32).reshape(30, 100),
    "head.bias": np.zeros(3, np.float32),
}


class Coordinator:
    """Plan, keys and run directories of one federation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan = FederationPlan.parse(
            {
                "name": "deploy test",
                "privacy": {"mode": "none"},
                "training": {"rounds": 2},
                "federation": {
                    "sites": [{"name": n, "declared_patients": 3 + len(n)} for n in SITES],
                    "weighting": "declared_patients",
                    "min_sites": len(SITES),
                    "round_deadline_s": 120,
                },
            }
        )
        create_signing_key(folder / "coordinator.pem")
        (folder / "site-keys").mkdir()
        for name in SITES:
            create_signing_key(folder / f"{name}.pem")
            self.started(name).touch()
            shutil.copy(public_path(folder / f"{name}.pem"), folder / "site-keys" / f"{name}.pub")

    def new_run(self, name: str) -> RunDirectory:
        run_dir = RunDirectory.create(self.folder / name, self.plan, INITIAL, name)
        Deployment(
            coordinator_key=self.folder / "coordinator.pem",
            site_keys=self.folder / "site-keys",
            driver=LOOPBACK_DRIVER,
        ).save(run_dir.path)
        return run_dir

    def sites(self) -> list[DeployedSite]:
        return [
            DeployedSite(
                name,
                self.folder / f"{name}.sock",
                (
                    *(sys.executable, str(STAND_IN), name, str(self.folder / f"{name}.sock")),
                    *(str(self.folder / f"{name}.pem"), str(self.started(name))),
                ),
            )
            for name in SITES
        ]

    def started(self, name: str) -> Path:
        """The file in which a stand-in agent notes the instructions that it computed."""
        return self.folder / f"{name}.started"

    @functools.cached_property
    def in_process(self) -> RunResult:
        """The same run without Flower."""
        run_dir = self.new_run("in-process")
        deployment = Deployment.load(run_dir.path)
        return RoundDriver(
            self.plan,
            run_dir,
            InProcessTransport({name: self._answer_of(name) for name in SITES}),
            load_signing_key(deployment.coordinator_key),
            deployment.public_keys(self.plan),
            settings=DriverSettings.in_process(),
        ).run()

    def _answer_of(self, name: str) -> Callable[[Sealed], Sealed]:
        key = load_signing_key(self.folder / f"{name}.pem")
        return lambda instruction: answer(instruction, key)
