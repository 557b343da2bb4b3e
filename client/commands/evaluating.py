"""``smrfed-site evaluate``: how well do the models do here? Told here, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from client.agent.state import StateFolder
from client.commands.display import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    err,
    out,
    print_json,
)
from client.commands.serving import PlanDigest, start_with_settings
from client.config import SiteConfig
from client.evaluation.held_model import find_model, plan_of
from client.privacy.ledger import Ledger

if TYPE_CHECKING:
    from client.evaluation.lesions import LesionEvaluation

Model = Annotated[
    str,
    typer.Argument(help="a finished run of this site, or an exported folder", metavar="MODEL"),
]
Draws = Annotated[int, typer.Option("--draws", min=100, help="bootstrap draws of patients")]

STAYS = "must not leave this hospital: these figures depend on single patients, without noise"


def evaluate(
    model: Model,
    config: ConfigPath = DEFAULT_CONFIG,
    plan: PlanDigest = None,
    draws: Draws = 2000,
    as_json: AsJson = False,
) -> None:
    """Evaluate a model on this hospital's own test patients; nothing of it leaves.

    The released model, and the one with this hospital's own parameters where the run fitted them.
    Page, JSON and CSV go to state_dir/evaluations, readable by their owner only.
    """
    site = SiteConfig.load(config)
    state = StateFolder(site.state_dir)
    held = find_model(site, model)
    agreed = plan_of(site, held, plan)
    start_with_settings(site.threads)
    # The training stack takes seconds to import: a mistake above is told before that.
    import torch

    from client.evaluation.lesions import evaluate_lesions_at_site
    from client.evaluation.local import evaluate_at_site
    from shared_model.evaluation.sentences import sentences

    torch.set_num_threads(site.threads)
    epsilon = None
    if agreed.privacy.mode != "none":
        epsilon = Ledger(state.ledger).spent(agreed.privacy.delta)
    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("preparing patients", total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if agreed.task.kind != "classification":
            found = evaluate_lesions_at_site(site, agreed, held, epsilon, draws, tell)
        else:
            document, written = evaluate_at_site(site, agreed, held, epsilon, draws, tell)
    if agreed.task.kind != "classification":
        _show_lesions(found, as_json)
        return
    if as_json:
        print_json({"page": str(written.page), "json": str(written.json), "csv": str(written.csv)})
        return
    out.print(f"[bold red]{STAYS}[/bold red]")
    for one in sentences(document):
        out.print(f"{one.verdict:>10}  {one.text}", markup=False, highlight=False)
    out.print(f"look at {written.page}", soft_wrap=True, highlight=False)


def _show_lesions(found: LesionEvaluation, as_json: bool) -> None:
    if as_json:
        print_json({"page": str(found.page), "json": str(found.json)})
        return
    out.print(f"[bold red]{STAYS}[/bold red]")
    for model, figures in found.figures.items():
        for name in ("dice", "lesion_f1", "sensitivity_at_1_fp", "ap_iou_0.1"):
            if figures.get(name) is not None:
                out.print(f"{model:>13}  {name} {figures[name]:.2f}", highlight=False)
    out.print(f"look at {found.page}", soft_wrap=True, highlight=False)
