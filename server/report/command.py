"""``smrfed-coordinator report``: what is known of a run, as page, JSON, CSV and model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from server.checkpoints.run_directory import RunDirectory
from server.run_path import RunPath


def report(
    run_dir: RunPath,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder for the files; default: RUN_DIR/report")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
) -> None:
    """Report a finished or running run: released figures, participation, privacy, receipts."""
    # Accounting loads scipy, a second that the other commands need not wait.
    from server.report.files import write_report
    from server.report.gather import gather
    from server.report.page import sentences

    run = RunDirectory.open(run_dir)
    found = gather(run)
    written = write_report(found, out or run.path / "report")
    if as_json:
        print(found.model_dump_json())
        return
    console = Console()
    for verdict, text in sentences(found):
        console.print(f"{verdict:>10}  {text}", markup=False, highlight=False)
    console.print(f"look at {written.page}", soft_wrap=True, highlight=False)
