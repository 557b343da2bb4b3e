"""The hospitals and travelling phantoms of one seed, with tokens cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from client.training.site_model import SiteModel
from shared_model.atlas.select import load_atlas
from shared_model.plan import FederationPlan
from simulations.arms.arm import Arrays
from simulations.arms.hospital import Hospital, load_hospital
from simulations.battery.cohorts import same_scanner, strong_scanners
from simulations.cohort.cohort import generate_cohort
from simulations.cohort.design import UNSEEN_SITE, default_cohort
from simulations.cohort.spec import CohortSpec
from simulations.cohort.travellers import generate_travellers
from simulations.demo.settings import DemoSettings, demo_plan
from simulations.federation.workspace import Workspace, create_workspace

SCENARIOS: dict[str, Callable[[int, int], CohortSpec]] = {
    "strong": lambda patients, seed: strong_scanners(patients, seed=seed),
    "same": lambda patients, seed: same_scanner(patients, seed=seed),
    "default": lambda patients, seed: _seen_only(default_cohort(patients, seed)),
}


@dataclass(frozen=True, eq=False)
class BatterySeed:
    """One cohort: hospitals by name, the same travellers at each, and the plan without layer B.

    ``again`` are the travellers' second scans at every hospital.
    """

    scenario: str
    seed: int
    plan: FederationPlan
    model: SiteModel
    initial: Arrays
    hospitals: dict[str, Hospital]
    travellers: dict[str, Hospital]
    again: dict[str, Hospital]

    def for_plan(self, plan: FederationPlan) -> BatterySeed:
        """The same with the model of a plan that adapts otherwise; tokens do not change by that."""
        model = SiteModel.build(plan, load_atlas(plan.atlas, plan.input.grid))
        return replace(self, plan=plan, model=model)


def load_seed(
    scenario: str, seed: int, folder: Path, *, patients: int, people: int, workers: int = 2
) -> BatterySeed:
    """Generate, or find below ``folder``, a cohort and its travellers; a second call takes seconds.

    Token caches are content-addressed, so they are shared between runs.
    """
    # One thread: the sums of a step then have one order, and a run repeats bit for bit.
    torch.set_num_threads(1)
    spec = SCENARIOS[scenario](patients, seed)
    root = folder / f"{scenario}-{seed}"
    folders = generate_cohort(spec, root / "cohort", workers)
    guests = generate_travellers(spec, people, root / "travel", workers)
    second = generate_travellers(spec, people, root / "travel-again", workers, occasion="again")
    plan = battery_plan(spec, seed)
    labels = plan.task.labels
    model = SiteModel.build(plan, load_atlas(plan.atlas, plan.input.grid))
    initial = model.shared_arrays()
    at_home = create_workspace(
        root / "parties-sites",
        {site.name: folders.archive(site.name) for site in spec.sites},
        labels,
        modes=("none", "local"),
        max_epsilon=1000.0,
    )
    as_guests = create_workspace(root / "parties-phantoms", guests, labels, modes=("none",))
    as_seconds = create_workspace(root / "parties-phantoms-again", second, labels, modes=("none",))

    def held_out(workspace: Workspace) -> dict[str, Hospital]:
        return {
            s.name: load_hospital(workspace.site_config(s.name), plan, model, held_out=True)
            for s in spec.sites
        }

    return BatterySeed(
        scenario,
        seed,
        plan,
        model,
        initial,
        {s.name: load_hospital(at_home.site_config(s.name), plan, model) for s in spec.sites},
        held_out(as_guests),
        held_out(as_seconds),
    )


def battery_plan(spec: CohortSpec, seed: int, **adaptation: Any) -> FederationPlan:
    """The demonstration's plan without privacy for these hospitals, with changes of layer B."""
    plan = demo_plan(DemoSettings(seed=seed), {s.name: s.patients for s in spec.sites}, "none")
    return with_adaptation(plan, **adaptation)


def with_adaptation(plan: FederationPlan, **adaptation: Any) -> FederationPlan:
    """The plan with other switches of layers A and B; nothing is fitted after the last release."""
    data = plan.model_dump(mode="json")
    data["adaptation"] |= {"personalise": "never"} | adaptation
    return FederationPlan.parse(data)


def _seen_only(spec: CohortSpec) -> CohortSpec:
    sites = tuple(site for site in spec.sites if site.name != UNSEEN_SITE)
    return spec.model_copy(update={"sites": sites})
