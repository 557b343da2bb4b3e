"""``smrfed-site explain``: what drove a model's output for one scan? Told here, nowhere else."""

from __future__ import annotations

import math
from typing import Annotated

import click
import typer

from client.commands.display import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    err,
    out,
    print_facts,
    print_json,
)
from client.commands.serving import PlanDigest, start_with_settings
from client.config import SiteConfig
from client.evaluation.held_model import find_model, plan_of

_SHOWN = 5

ScanName = Annotated[
    str,
    typer.Argument(
        help="SUBJECT or SUBJECT/SESSION of the archive, or an aligned, skull-stripped NIfTI file",
        metavar="SCAN",
    ),
]
Model = Annotated[
    str, typer.Option("--model", help="a finished run of this site, or an exported folder")
]
ClassName = Annotated[
    str | None, typer.Option("--class", help="class to explain; default: the predicted one")
]


def _years(value: float | None) -> float | None:
    if value is not None and math.isnan(value):
        raise typer.BadParameter("a number of years")
    return value


Age = Annotated[
    float | None,
    typer.Option("--age", min=0, max=120, callback=_years, help="years, where no table says it"),
]
Sex = Annotated[
    str | None,
    typer.Option(
        "--sex",
        click_type=click.Choice(["F", "M"], case_sensitive=False),
        help="where no table says it",
    ),
]


def explain(
    scan: ScanName,
    model: Model,
    config: ConfigPath = DEFAULT_CONFIG,
    plan: PlanDigest = None,
    class_name: ClassName = None,
    age: Age = None,
    sex: Sex = None,
    as_json: AsJson = False,
) -> None:
    """Show which regions drove a model's output for one scan; nothing of it leaves.

    Page, pictures, NIfTI overlays and tables go to state_dir/explanations, readable by their owner
    only, with the figures that say how far each map can be trusted.
    """
    site = SiteConfig.load(config)
    held = find_model(site, model)
    agreed = plan_of(site, held, plan)
    start_with_settings(site.threads)
    # The training stack takes seconds to import: a mistake above is told before that.
    import torch

    from client.explanation.statements import STAYS, WORDING
    from client.explanation.writing import Asked, explain_at_site

    torch.set_num_threads(site.threads)
    with err.status("explaining") as status:
        found = explain_at_site(
            site,
            agreed,
            held,
            Asked(scan, class_name, age, sex),
            f"smrfed-site explain --model {held.name}",
            lambda step: status.update(f"explaining: {step}"),
        )
    findings = found.findings
    probabilities = dict(zip(findings.labels, findings.certainty.probabilities, strict=True))
    if as_json:
        print_json(
            {
                "page": str(found.page),
                "folder": str(found.folder),
                "probabilities": probabilities,
                "explained_class": findings.labels[findings.target],
                "top_regions": list(findings.drove(_SHOWN)),
            }
        )
        return
    out.print(f"[bold red]{STAYS}[/bold red]")
    print_facts(
        {
            "probabilities": ", ".join(f"{name} {p:.2f}" for name, p in probabilities.items()),
            "explained": findings.labels[findings.target],
            WORDING: ", ".join(findings.drove(_SHOWN)) or "none: the map is even",
            "look at": found.page,
        }
    )
