"""``smrfed-coordinator track``: hand what a run released to TensorBoard or MLflow."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Console

from server.checkpoints.run_directory import RunDirectory
from server.run_path import RunPath
from server.tracking.story import story_of
from server.tracking.trackers import Target, open_tracker

_err = Console(stderr=True, soft_wrap=True)

Where = Annotated[
    str, typer.Argument(help="folder, or tracking URI of MLflow", metavar="DIR_OR_URI")
]
To = Annotated[Target, typer.Option("--to", help="which tracker")]
Watch = Annotated[
    bool, typer.Option("--watch", help="go on until the run is finished; ends with Ctrl-C")
]
Interval = Annotated[float, typer.Option("--interval", min=0.1, help="seconds between two looks")]


def track(
    run_dir: RunPath, where: Where, to: To, watch: Watch = False, interval: Interval = 10.0
) -> None:
    """Log rounds, participation, released figures and the plan; used again, only what is new."""
    with open_tracker(to, where) as tracker:
        while True:
            story = story_of(RunDirectory.open(run_dir))
            written = tracker.tell(story)
            if written or not watch:
                _err.print(f"{story.run}: {written} figures to {to}", markup=False, highlight=False)
            if not watch or story.finished:
                return
            time.sleep(interval)
