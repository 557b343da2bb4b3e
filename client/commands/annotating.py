"""``smrfed-site annotate``: masks to correct, proposed by a model that this hospital holds."""

from __future__ import annotations

from rich.progress import Progress

from client.agent.acceptance import AcceptedPlans
from client.agent.state import StateFolder
from client.commands.display import DEFAULT_CONFIG, AsJson, ConfigPath, err, out, print_json
from client.commands.evaluating import Model
from client.commands.serving import PlanDigest, start_with_settings
from client.config import SiteConfig
from client.evaluation.held_model import find_model


def annotate(
    model: Model,
    config: ConfigPath = DEFAULT_CONFIG,
    plan: PlanDigest = None,
    as_json: AsJson = False,
) -> None:
    """Propose lesion masks for the scans that have none, for a person to correct.

    Masks and a worklist, least sure first, go to state_dir/annotations, readable by their owner
    only; nothing leaves the hospital and nothing is trained on. Copy a mask to derivatives/lesions
    of the archive once somebody has corrected it.
    """
    site = SiteConfig.load(config)
    held = find_model(site, model)
    agreed = held.plan
    if agreed is None:
        plans = AcceptedPlans(StateFolder(site.state_dir).plans)
        digest = plan or held.plan_digest
        agreed = (plans.newest() if digest is None else plans.find(digest)).plan
    start_with_settings(site.threads)
    from client.annotation.unmarked import annotate_at_site

    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("proposing masks", total=None)
        folder, written = annotate_at_site(
            site, agreed, held, lambda done, total: bar.update(task, completed=done, total=total)
        )
    waiting = sum(not one.confident for one in written)
    if as_json:
        print_json({"folder": str(folder), "scans": len(written), "to_correct": waiting})
        return
    out.print(f"{len(written)} scans, {waiting} to correct first; look at", highlight=False)
    out.print(f"{folder / 'worklist.tsv'}", soft_wrap=True, highlight=False)
