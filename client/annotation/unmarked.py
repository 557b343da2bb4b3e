"""The scans of a hospital that have no lesion mask yet, and what a model proposes for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from client.agent.durable import make_private_folder
from client.agent.site_data import training_device
from client.agent.state import StateFolder
from client.annotation.worklist import Written, write_proposals
from client.archive.bids import read_bids_archive
from client.archive.lesions import divided_by_mask
from client.config import SiteConfig
from client.evaluation.held_model import HeldModel
from client.prepared.scan_fields import ScanFields
from client.prepared.store import PreparedStore
from client.training.site_model import SiteModel
from shared_model.atlas.select import load_atlas
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan


def annotate_at_site(
    config: SiteConfig,
    plan: FederationPlan,
    held: HeldModel,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, tuple[Written, ...]]:
    """Propose masks for every scan of the archive without one, below ``state_dir/annotations``.

    Raises SMR-E496 for a model of another task, SMR-E497 where every scan has a mask, SMR-E229 for
    a plan of scans as acquired, and the archive's numbers.
    """
    if plan.task.kind != "segmentation":
        raise SmrfedError(
            "SMR-E496",
            "this model proposes no masks",
            expected="a model whose plan has task.kind 'segmentation'",
            found=plan.task.kind,
            remedy="name a run of a segmentation plan, such as one of model 'unet'",
        )
    if plan.input.preparation.source != "mni152":
        from client.prepared.scan_source import scan_source

        scan_source(config, plan)
    patients = read_bids_archive(config.dataset, config.label_mapping, ())
    _, unmarked = divided_by_mask(config.dataset, patients)
    if not unmarked:
        raise SmrfedError(
            "SMR-E497",
            "every scan of this archive has a lesion mask",
            expected="scans without a file in derivatives/lesions",
            found=f"{sum(len(p.scans) for p in patients)} scans, all with one",
            remedy="nothing is left to propose; to begin anew, move masks out of the folder",
        )
    store = PreparedStore(config.state_dir, plan.input.grid, plan.input.intensity)
    model = SiteModel.build(
        plan,
        load_atlas(plan.atlas, plan.input.grid),
        config.weights_folders,
        training_device(config.device),
    )
    model.load_shared(held.shared)
    if held.site is not None:
        model.load_own(held.site)
    state = StateFolder(config.state_dir)
    make_private_folder(state.annotations)
    folder = state.annotations / held.name
    about = f"model {held.name}, sha256 {held.sha256[:12]}, plan {plan.digest[:12]}"
    fields = ScanFields(config, plan)
    return folder, write_proposals(folder, model, unmarked, store, fields, about, progress)
