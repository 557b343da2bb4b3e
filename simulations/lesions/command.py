"""``smrfed-sim lesion-study``: lesions segmented, detected and annotated, against known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

TASKS = ("segmentation", "detection", "annotation")


def lesion_study_command(
    out: Annotated[Path, typer.Option("--out", help="folder for cohorts and runs")] = Path(
        "runs/lesions"
    ),
    record: Annotated[Path, typer.Option("--record", help="JSON file of the figures")] = Path(
        "docs/lesions.json"
    ),
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", help="segmentation, detection or annotation; repeatable; else all"),
    ] = None,
    patients: Annotated[int, typer.Option("--patients", min=8, help="at each hospital")] = 40,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="of every arm")] = 320,
    seed: Annotated[int, typer.Option("--seed", min=0, help="of patients and models")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="to write archives")] = 2,
) -> None:
    """Segment, detect and annotate synthetic lesions; federated, pooled, alone, with privacy.

    Arms that the record holds already are not measured again.
    """
    from simulations.lesions.pictures import write_pictures
    from simulations.lesions.plans import Schedule
    from simulations.lesions.study import LesionStudy, StudySettings
    from simulations.lesions.tables import tables

    asked = tuple(tasks or TASKS)
    if unknown := set(asked) - set(TASKS):
        raise typer.BadParameter(f"{sorted(unknown)}; known: {', '.join(TASKS)}")
    console = Console()
    settings = StudySettings(
        patients=patients, seed=seed, workers=workers, schedule=Schedule(rounds=rounds)
    )
    study = LesionStudy(out, record, settings, console)
    found = study.run(asked)
    console.print(tables(found), markup=False, highlight=False, soft_wrap=True)
    for path in write_pictures(out, settings):
        console.print(f"look at {path}", soft_wrap=True, highlight=False)
