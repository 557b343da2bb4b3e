"""``smrfed-sim privacy``: utility against epsilon, or only what a plan's numbers can do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from shared_model.errors import SmrfedError


def privacy_command(
    out: Annotated[Path, typer.Option("--out", help="cohorts, runs, page and JSON")] = Path(
        "runs/recorded"
    ),
    plan: Annotated[
        Path | None, typer.Option("--plan", help="only say what this plan's numbers can do")
    ] = None,
    epsilon: Annotated[
        list[float] | None, typer.Option("--epsilon", help="budgets; repeat the option")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", help="cohorts; repeat the option")
    ] = None,
    patients: Annotated[int, typer.Option("--patients", min=12, help="at each hospital")] = 96,
    unseen: Annotated[int, typer.Option("--unseen", min=12, help="at the unseen hospital")] = 64,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="noise draws per cohort")] = 6,
    workers: Annotated[int, typer.Option("--workers", min=1)] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="print figures as JSON")] = False,
) -> None:
    """Plot utility against epsilon on synthetic hospitals; or judge a plan before it is run."""
    console = Console(stderr=as_json)
    if plan is not None:
        _judge(plan, console, as_json)
        return
    epsilons = tuple(sorted(set(epsilon or (1.0, 3.0, 8.0))))
    if not all(value > 0 and math.isfinite(value) for value in epsilons):
        raise typer.BadParameter("a budget is a positive number", param_hint="--epsilon")
    # The training stack takes seconds to import: a mistake in the call is told before that.
    from simulations.privacy_study.page import study_rows, write_page
    from simulations.privacy_study.settings import StudySettings
    from simulations.privacy_study.study import run_study
    from simulations.privacy_study.wording import sentences
    from simulations.report.storage import write_text_atomically

    settings = StudySettings(
        patients_per_site=patients, unseen_patients=unseen, seeds=tuple(seed or (1, 2, 3)),
        epsilons=epsilons, repeats=repeats, workers=workers,
    )  # fmt: skip
    study = run_study(settings, out, console, settings.command_line)
    write_text_atomically(out / "privacy.json", study.model_dump_json(indent=1) + "\n")
    write_page(study, out / "privacy.html")
    if as_json:
        typer.echo(study.model_dump_json())
        return
    table = Table("arm", "epsilon", "seen", "seen AUC", "unseen", "unseen AUC")
    for title, budget, cells in study_rows(study):
        table.add_row(title, "none" if budget is None else f"{budget:g}", *map(str, cells))
    console.print(table)
    for sentence in sentences(study):
        console.print(sentence)
    console.print(f"page: {out / 'privacy.html'}")


def _judge(path: Path, console: Console, as_json: bool) -> None:
    from shared_model.plan import FederationPlan

    agreed = FederationPlan.load(path)
    if agreed.privacy.mode == "none":
        raise SmrfedError(
            "SMR-E660",
            f"plan {agreed.name!r} adds no noise, so there is no ratio to judge",
            expected="a plan in a private mode",
            found="privacy.mode = 'none'",
            remedy="set privacy.mode, epsilon and noise_multiplier in the plan",
        )
    from client.training.site_model import SiteModel
    from shared_model.atlas.select import load_atlas
    from simulations.privacy_study.study import budget

    model = SiteModel.build(agreed, load_atlas(agreed.atlas, agreed.input.grid))
    parameters = sum(math.prod(shape) for shape in model.shared_shapes.values())
    found = budget(agreed, parameters)
    if as_json:
        typer.echo(found.model_dump_json())
        return
    sites = ", ".join(f"{s.name} {s.declared_patients}" for s in agreed.federation.sites)
    console.print(
        f"plan {agreed.name}: {parameters:,} weights train in {agreed.total_steps} steps; "
        f"patients: {sites}"
    )
    console.print(
        f"S = {found.signal_to_noise:.2f} together, {found.signal_to_noise_alone:.2f} for one "
        f"hospital alone: {found.verdict}"
    )
    console.print(f"S = 10 needs {found.patients_for_comfort} patients at each hospital")
