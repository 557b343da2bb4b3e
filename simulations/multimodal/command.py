"""``smrfed-sim multimodal-study``: fusion against each modality alone, on complementary data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def multimodal_command(
    out: Annotated[Path, typer.Option("--out", help="JSON file of the figures")] = Path(
        "runs/multimodal.json"
    ),
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="cohorts and starts")] = 5,
    train: Annotated[int, typer.Option("--train", min=9, help="patients trained on")] = 150,
    test: Annotated[int, typer.Option("--test", min=9, help="fresh patients")] = 150,
) -> None:
    """Fusion of two networks and a clinical number where neither alone can tell three classes."""
    from rich.console import Console

    from simulations.multimodal.study import print_study, run_study

    console = Console(stderr=True)
    study = run_study(seeds, train, test, console)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(study.model_dump_json(indent=1) + "\n", encoding="utf-8")
    print_study(study, Console())
    typer.echo(out)
