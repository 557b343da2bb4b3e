"""Run the demonstration's private federation over real Flower processes on loopback."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

import tomli_w
from rich.console import Console

from server.checkpoints.run_directory import RunDirectory
from server.flower.deployment import Deployment
from server.rounds.events import Observer
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from simulations.arms.federated_arms import Runner
from simulations.deployed.environment import command
from simulations.deployed.federation import LOOPBACK_DRIVER, DeployedFederation, DeployedSite
from simulations.federation.workspace import Workspace

_RUN_TIMEOUT_S = 1800.0
_ACCEPT_TIMEOUT_S = 600.0


def deployed_runner(console: Console) -> Runner:
    """A runner that starts SuperLink, SuperNodes, SuperExecs, couriers and agents, and ends them.

    TLS with a fresh authority, node authentication, process isolation, offline switches; every
    hospital accepts the plan with the command that a hospital would use. All processes are gone
    when it returns or raises, Ctrl-C included.
    """

    def run(
        plan: FederationPlan, workspace: Workspace, run_dir: RunDirectory, observer: Observer
    ) -> None:
        names = [site.name for site in plan.federation.sites]
        Deployment(
            coordinator_key=workspace.coordinator_key_path.resolve(),
            site_keys=workspace.site_keys_folder.resolve(),
            driver=LOOPBACK_DRIVER,
        ).save(run_dir.path)
        _accept(plan, workspace, names)
        sites = [DeployedSite.from_config(workspace.site_config(name)) for name in names]
        with DeployedFederation(sites, workspace.root / "deployment") as federation:
            console.print(
                f"{len(federation.processes.children)} processes up in "
                f"{federation.start_up_s:.0f} s; "
                f"their logs: {workspace.root / 'deployment' / 'logs'}",
                soft_wrap=True,
            )
            federation.run(run_dir.path, _RUN_TIMEOUT_S, observer)

    return run


def _accept(plan: FederationPlan, workspace: Workspace, names: list[str]) -> None:
    """Let every hospital accept the plan, two at a time: each starts a torch of its own."""
    file = workspace.root / "plan.toml"
    file.write_text(tomli_w.dumps(plan.model_dump(mode="json", exclude_none=True)), "utf-8")

    def accept(name: str) -> None:
        config = workspace.site_config(name)
        arguments = ["accept", str(file), "--config", str(config), "--yes"]
        result = subprocess.run(
            [command("smrfed-site"), *arguments],
            capture_output=True, text=True, timeout=_ACCEPT_TIMEOUT_S, check=False,
        )  # fmt: skip
        if result.returncode != 0:
            raise SmrfedError(
                "SMR-E640",
                f"the simulated hospital {name!r} does not accept the plan",
                found=(result.stderr or result.stdout).strip()[-500:],
                remedy=f"see what `smrfed-site {' '.join(arguments)}` says",
            )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(accept, names))
