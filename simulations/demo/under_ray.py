"""Run the demonstration's private federation under Flower's Ray engine."""

from __future__ import annotations

from server.checkpoints.run_directory import RunDirectory
from server.rounds.driver import RunResult
from server.rounds.events import Observer
from shared_model.plan import FederationPlan
from simulations.arms.federated_arms import Runner
from simulations.federation.ray_engine import run_under_ray
from simulations.federation.workspace import Workspace


def ray_runner() -> Runner:
    """A runner that gives every site's instruction to a Ray worker, as many at once as fit."""

    def run(
        plan: FederationPlan, workspace: Workspace, run_dir: RunDirectory, observer: Observer
    ) -> RunResult:
        names = [site.name for site in plan.federation.sites]
        return run_under_ray(
            plan,
            tuple(workspace.site_config(name) for name in names),
            run_dir,
            workspace.coordinator_key,
            workspace.site_keys(names),
            observer,
        )

    return run
