"""One federated run in this process: agents, driver, checkpoints; resumes where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from client.agent.agent import SiteAgent
from client.config import SiteConfig
from server.checkpoints.run_directory import RunDirectory
from server.rounds.driver import RoundDriver, RunResult
from server.rounds.events import Observer
from server.rounds.settings import DriverSettings
from shared_model.atlas.atlas import Atlas
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays
from simulations.federation.in_process import Handler, InProcessTransport
from simulations.federation.workspace import Workspace


def open_run(path: Path, plan: FederationPlan, initial: Arrays, run_id: str) -> RunDirectory:
    """The run directory at ``path``, made when it does not exist."""
    if path.exists():
        return RunDirectory.open(path)
    return RunDirectory.create(path, plan, initial, run_id)


def run_in_process(
    plan: FederationPlan,
    workspace: Workspace,
    run_dir: RunDirectory,
    atlas: Atlas,
    observer: Observer | None = None,
) -> RunResult:
    """Drive a run directory to its end with the hospitals' real agents, one after another.

    The same instructions, checks, ledgers, egress gates and sealed replies as in a deployment; only
    the network is missing. Raises what the agents' start and :class:`RoundDriver` raise.
    """
    names = [site.name for site in plan.federation.sites]
    with ExitStack() as stack:
        handlers: dict[str, Handler] = {}
        for name in names:
            agent = SiteAgent(SiteConfig.load(workspace.site_config(name)), plan, atlas=atlas)
            stack.callback(agent.close)
            handlers[name] = agent.handle
        return RoundDriver(
            plan,
            run_dir,
            InProcessTransport(handlers),
            workspace.coordinator_key,
            workspace.site_keys(names),
            observer,
            settings=DriverSettings.in_process(),
        ).run()


def final_site_arrays(
    workspace: Workspace, names: tuple[str, ...], run_id: str
) -> Mapping[str, Arrays]:
    """The personal parameters that each hospital fitted after the last release, by site.

    Only a simulation may look at them: in a federation they never leave the hospital.
    """
    from client.agent.final_model import SITE
    from client.agent.state import StateFolder
    from shared_model.protocol.arrays import decode_arrays

    out = {}
    for name in names:
        state = StateFolder(SiteConfig.load(workspace.site_config(name)).state_dir)
        path = state.model(run_id) / SITE
        if path.exists():
            out[name] = decode_arrays(path.read_bytes())
    return out
