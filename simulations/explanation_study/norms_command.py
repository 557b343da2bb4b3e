"""``smrfed-sim volume-norms``: normal region volumes for age and sex from public people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shared_model.atlas.cache import write_atomically

_PEOPLE = 240


def volume_norms_command(
    record: Annotated[Path, typer.Option("--record", help="JSON file of the norms")] = Path(
        "shared_model/explanation/volume_norms.json"
    ),
    people: Annotated[
        int, typer.Option("--people", min=60, help="a third of them is healthy and measured")
    ] = _PEOPLE,
    workers: Annotated[int, typer.Option("--workers", min=1)] = 1,
) -> None:
    """Measure the region volumes of healthy synthetic people, each on another scanner."""
    from simulations.explanation_study.norms import measure_norms

    command = "smrfed-sim volume-norms" + (f" --people {people}" if people != _PEOPLE else "")
    console = Console()
    with console.status("synthetic people"):
        norms = measure_norms(people, workers, command)
    write_atomically(record, (norms.model_dump_json(indent=1) + "\n").encode())
    console.print(f"{norms.people} healthy people in {record}", soft_wrap=True)
