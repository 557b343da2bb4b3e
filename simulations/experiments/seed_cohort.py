"""The cohort of one seed with its hospitals, model and plan, ready for any arm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from client.training.site_model import SiteModel
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.select import load_atlas
from shared_model.plan import FederationPlan
from simulations.arms.arm import Arrays
from simulations.arms.hospital import Hospital, load_hospital
from simulations.cohort.cohort import generate_cohort
from simulations.cohort.design import UNSEEN_SITE, default_cohort
from simulations.cohort.spec import CohortSpec
from simulations.cohort.truth import TruthTable, read_truth_table
from simulations.demo.settings import DemoSettings, demo_plan
from simulations.federation.workspace import create_workspace


@dataclass(frozen=True, eq=False)
class SeedCohort:
    """Everything that the arms of one seed share.

    ``plan`` is the demonstration's without privacy; ``members`` are the hospitals that train, with
    the size of their archives.
    """

    spec: CohortSpec
    settings: DemoSettings
    members: dict[str, int]
    plan: FederationPlan
    atlas: Atlas
    model: SiteModel
    initial: Arrays
    hospitals: tuple[Hospital, ...]
    truth: TruthTable


def load_seed_cohort(
    settings: DemoSettings, folder: Path, progress: Callable[[str], None]
) -> SeedCohort:
    """Generate, or find in ``folder``, the cohort of ``settings.seed`` and read its hospitals.

    Scans and tokens are kept below ``folder/cohort-SEED`` and ``folder/parties-SEED``, so that a
    second call takes seconds.
    """
    # One thread: the sums of a step then have one order, and a run repeats bit for bit.
    torch.set_num_threads(1)
    seed = settings.seed
    spec = default_cohort(settings.patients_per_site, seed, settings.unseen_patients)
    progress(f"seed {seed}: synthetic patients")
    folders = generate_cohort(spec, folder / f"cohort-{seed}", settings.workers)
    members = {s.name: s.patients for s in spec.sites if s.name != UNSEEN_SITE}
    plan = demo_plan(settings, members, "none")
    workspace = create_workspace(
        folder / f"parties-{seed}",
        {site.name: folders.archive(site.name) for site in spec.sites},
        plan.task.labels,
        modes=("none",),
    )
    atlas = load_atlas(plan.atlas, plan.input.grid)
    model = SiteModel.build(plan, atlas)
    initial = model.shared_arrays()
    progress(f"seed {seed}: reading scans")
    hospitals = tuple(
        load_hospital(workspace.site_config(s.name), plan, model, held_out=s.name not in members)
        for s in spec.sites
    )
    truth = read_truth_table(folders.truth)
    return SeedCohort(spec, settings, members, plan, atlas, model, initial, hospitals, truth)
