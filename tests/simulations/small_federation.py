"""Hospitals with small real archives, in a workspace, for tests of whole federations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bids_fixture import LABELS, people, write_bids

from client.training.site_model import SiteModel
from server.checkpoints.run_directory import RunDirectory
from shared_model.atlas.select import load_atlas
from shared_model.plan import FederationPlan
from shared_model.registry import default_groups
from simulations.federation.run import open_run
from simulations.federation.workspace import Workspace, create_workspace


def plan_of(sites: Sequence[str], *, rounds: int = 2, min_sites: int = 1) -> FederationPlan:
    """SMR-Net on the 4 mm grid without privacy, so that a run can be repeated to the bit."""
    return FederationPlan.parse(
        {
            "name": "small federation",
            "seed": 11,
            "input": {"grid": {"spacing_mm": 4.0}},
            "model": {"config": {"width": 4}},
            "groups": default_groups("smrnet").model_dump(),
            "privacy": {"mode": "none"},
            "training": {"rounds": rounds, "local_steps": 2, "sampling_rate": 0.8},
            "adaptation": {"personalise_steps": 2},
            "federation": {
                "sites": [{"name": n, "declared_patients": 6 + len(n)} for n in sites],
                "min_sites": min_sites,
                "round_deadline_s": 240,
            },
            "evaluation": {"bootstrap_draws": 100},
        }
    )


def write_archives(folder: Path, sites: Sequence[str]) -> dict[str, Path]:
    """Six patients per site, other ones at each."""
    return {
        site: write_bids(folder / site, *people(6), seed=number)
        for number, site in enumerate(sites)
    }


def new_workspace(root: Path, archives: dict[str, Path]) -> Workspace:
    """Hospitals that have never answered anybody."""
    return create_workspace(root, archives, LABELS, modes=("none",))


def new_run(path: Path, plan: FederationPlan) -> RunDirectory:
    """A run from the plan's own initial parameters."""
    atlas = load_atlas(plan.atlas, plan.input.grid)
    return open_run(path, plan, SiteModel.build(plan, atlas).shared_arrays(), "study")
