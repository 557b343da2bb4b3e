"""``smrfed-site annotate``: masks to correct, proposed by a model that this hospital holds."""

from __future__ import annotations

from rich.progress import Progress

from client.commands.display import DEFAULT_CONFIG, AsJson, ConfigPath, err, out, print_json
from client.commands.evaluating import Model
from client.commands.serving import PlanDigest, start_with_settings
from client.config import SiteConfig
from client.evaluation.held_model import find_model, plan_of


def annotate(
    model: Model,
    config: ConfigPath = DEFAULT_CONFIG,
    plan: PlanDigest = None,
    as_json: AsJson = False,
) -> None:
    """Propose lesion masks for the scans that have none, for a person to correct.

    Masks and a worklist, least sure first, go to state_dir/annotations, readable by their owner
    only; nothing leaves the hospital and nothing is trained on. Copy a mask to derivatives/lesions
    of the archive once somebody has corrected it; a later call leaves corrected masks alone.
    """
    site = SiteConfig.load(config)
    held = find_model(site, model)
    agreed = plan_of(site, held, plan)
    start_with_settings(site.threads)
    from client.annotation.unmarked import annotate_at_site

    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("proposing masks", total=None)
        folder, written = annotate_at_site(
            site, agreed, held, lambda done, total: bar.update(task, completed=done, total=total)
        )
    waiting = sum(one.advice == "correct" for one in written)
    kept = sum(one.corrected for one in written)
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "scans": len(written),
                "to_correct": waiting,
                "corrected_by_a_person": kept,
            }
        )
        return
    told = f", {kept} corrected by a person and left alone" if kept else ""
    out.print(f"{len(written)} scans, {waiting} to correct first{told}; look at", highlight=False)
    out.print(f"{folder / 'worklist.tsv'}", soft_wrap=True, highlight=False)
