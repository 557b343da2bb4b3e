"""``smrfed-coordinator plan new`` and ``plan initial``."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from server.plan_drafting.draft import USUAL_MODEL, Scans, draft_plan
from server.plan_drafting.initial import (
    initial_parameters,
    read_parameters,
    taken_over,
    unusable,
    write_parameters,
)
from server.plan_drafting.secure_sum import enrolled_keys
from server.run_path import HERE, Home
from shared_model.errors import SmrfedError
from shared_model.label_schemas import LABEL_SCHEMAS, label_schema
from shared_model.plan import FederationPlan, PrivacyMode
from shared_model.privacy.section import SUMMED

_out = Console(soft_wrap=True, highlight=False)


def new(
    plan: Annotated[Path, typer.Argument(help="file to write, TOML", metavar="PLAN")],
    site: Annotated[
        list[str],
        typer.Option(
            "--site",
            metavar="NAME=PATIENTS",
            help="a hospital and the public size of its training set; once for each",
        ),
    ],
    name: Annotated[str, typer.Option(help="of the study, for people")] = "first study",
    rounds: Annotated[int, typer.Option(min=1)] = 30,
    epsilon: Annotated[float, typer.Option(help="budget per patient")] = 8.0,
    privacy: Annotated[
        PrivacyMode, typer.Option(help="none: only for public or synthetic data")
    ] = "local",
    evaluate_every: Annotated[
        int,
        typer.Option(min=0, help="noised figures of test patients every so many rounds; 0: never"),
    ] = 0,
    scans: Annotated[
        Scans, typer.Option(help="as acquired, or stripped and aligned to MNI152 already")
    ] = "native",
    labels: Annotated[
        str, typer.Option(help=f"what is predicted: {', '.join(LABEL_SCHEMAS)}")
    ] = "ad",
    model: Annotated[
        str,
        typer.Option(help="name in the registry (smrfed-sim models); but for smrnet needs torch"),
    ] = USUAL_MODEL,
    home: Home = HERE,
) -> None:
    """Write a plan to begin with: SMR-Net, packaged public weights, noise that fits epsilon."""
    if plan.exists():
        raise SmrfedError(
            "SMR-E559",
            f"{plan} exists already",
            expected="a new file: a plan that hospitals accepted must not change",
            found=plan.name,
            remedy="name another file, or edit the existing one",
        )
    text = draft_plan(
        name,
        _sites(site),
        seed=secrets.randbelow(1 << 31),
        mode=privacy,
        epsilon=epsilon,
        rounds=rounds,
        every=evaluate_every,
        scans=scans,
        labels=label_schema(labels).labels,
        model=model,
        signing_keys=enrolled_keys(home) if privacy in SUMMED else None,
    )
    try:
        plan.write_text(text, encoding="utf-8")
    except OSError as error:
        raise unusable(plan, error) from None
    _out.print(f"written: {escape(str(plan))}; digest {FederationPlan.load(plan).digest}")
    _out.print(f"read it and change it, then: smrfed-coordinator plan show {escape(str(plan))}")


def initial(
    plan: Annotated[Path, typer.Argument(help="federation plan in TOML", metavar="PLAN")],
    out: Annotated[Path, typer.Argument(help="file to write, safetensors", metavar="FILE")],
    begin_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="released parameters of an earlier run, of another disease perhaps: all but what "
            "speaks of classes begins there",
        ),
    ] = None,
) -> None:
    """Write the parameters that a run of this plan begins with; needs torch, on any machine."""
    loaded = FederationPlan.load(plan)
    arrays = initial_parameters(loaded)
    if begin_from is not None:
        arrays = taken_over(loaded, arrays, read_parameters(begin_from))
    write_parameters(out, arrays)
    count = sum(value.size for value in arrays.values())
    _out.print(f"written: {escape(str(out))}; {count:,} shared parameters")


def _sites(values: list[str]) -> dict[str, int]:
    sites: dict[str, int] = {}
    for value in values:
        name, _, count = value.partition("=")
        if not count.isdigit() or name in sites:
            raise typer.BadParameter(f"{value!r} is not NAME=PATIENTS, once for each hospital")
        sites[name] = int(count)
    return sites
