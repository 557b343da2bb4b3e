"""``smrfed-sim volume-reference``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress


def volume_reference_command(
    out: Annotated[Path, typer.Argument(help="file to write, JSON", metavar="FILE")],
    subjects: Annotated[int, typer.Option(min=8, help="public synthetic people")] = 64,
    folder: Annotated[Path, typer.Option(help="where they are kept")] = Path("runs/public-volumes"),
    workers: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Measure region volumes of the public cohort: the constants that hospitals standardise with.

    The packaged file was made with the defaults. Its digest stands in a plan as
    model.config.reference_sha256.
    """
    from simulations.volume_reference.make import make_reference

    console = Console()
    command = f"smrfed-sim volume-reference --subjects {subjects}"
    with Progress(console=console) as bars:
        task = bars.add_task("public subjects, made and measured", total=2 * subjects)
        digest = make_reference(
            folder,
            out,
            subjects,
            workers,
            command,
            lambda done, _: bars.update(task, completed=done),
        )
    console.print(f"written: {out}; SHA-256 {digest}", soft_wrap=True)
