"""``smrfed-sim explain-study``: do explanations point at what is truly atrophied?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shared_model.atlas.cache import write_atomically
from shared_model.errors import SmrfedError

#: The default explanation was chosen on seed 3.
SEEDS = (1, 2, 4)


def explain_study_command(
    out: Annotated[Path, typer.Option("--out", help="folder for cohorts and tokens")] = Path(
        "runs/explanations"
    ),
    record: Annotated[Path, typer.Option("--record", help="JSON file of the figures")] = Path(
        "docs/explanations.json"
    ),
    page: Annotated[Path, typer.Option("--page", help="Markdown page of the figures")] = Path(
        "docs/explanations.md"
    ),
    seeds: Annotated[list[int] | None, typer.Option("--seed", min=0, help="repeatable")] = None,
    epsilon: Annotated[float, typer.Option("--epsilon", min=0.1, help="of the private model")] = (
        8.0
    ),
    patients: Annotated[
        int, typer.Option("--patients", min=1, help="scans per seed for the slow methods")
    ] = 6,
    shuffled: Annotated[
        int, typer.Option("--shuffled", min=1, help="scans per seed for shuffled weights")
    ] = 24,
    private: Annotated[int, typer.Option("--private", min=1, help="private models per seed")] = 4,
    controls: Annotated[
        bool, typer.Option("--controls/--no-controls", help="outline and binarised inputs")
    ] = True,
) -> None:
    """Measure every explanation method on synthetic patients; exit 1 if the default fails a bar."""
    from simulations.explanation_study.page import study_page
    from simulations.explanation_study.study import StudySettings, run_study

    chosen = tuple(seeds or SEEDS)
    if len(set(chosen)) != len(chosen):
        raise SmrfedError(
            "SMR-E730",
            "a seed of the explanation study is named twice",
            expected="different seeds: the same patients twice would narrow the intervals",
            found=" ".join(map(str, chosen)),
            remedy="name each seed once",
        )
    command = "smrfed-sim explain-study"
    command += "".join(f" --seed {seed}" for seed in chosen) if chosen != SEEDS else ""
    command += f" --epsilon {epsilon:g}" if epsilon != 8 else ""
    command += f" --patients {patients}" if patients != 6 else ""
    command += f" --shuffled {shuffled}" if shuffled != 24 else ""
    command += f" --private {private}" if private != 4 else ""
    command += "" if controls else " --no-controls"
    settings = StudySettings(
        seeds=chosen,
        epsilon=epsilon,
        volume_patients=patients,
        shuffled_patients=shuffled,
        private_models=private,
        controls=controls,
        workers=min(4, os.cpu_count() or 1),
    )
    console = Console()
    with console.status("") as status:
        figures = run_study(settings, out, command, status.update)
    body = json.dumps(figures.model_dump(mode="json"), indent=1) + "\n"
    write_atomically(record, body.encode())
    write_atomically(page, study_page(figures).encode())
    for bar, met in figures.bars(figures.shipped).items():
        console.print(f"{'met' if met else 'MISSED':>8}  {figures.shipped}: {bar}")
    console.print(f"figures in {record}, read {page}", soft_wrap=True)
    if not all(figures.bars(figures.shipped).values()):
        raise typer.Exit(1)
