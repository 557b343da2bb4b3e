"""The argument ``RUN_DIR``: a path, or the name of a run in the coordinator's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from server.config import CoordinatorFolder


def in_home(run_dir: Path, home: Path) -> Path:
    """``home/runs/NAME`` for a bare name that is no path here; any other path as it is."""
    if len(run_dir.parts) != 1 or run_dir.is_absolute() or run_dir.exists():
        return run_dir
    return CoordinatorFolder(home).runs / run_dir


def _named(run_dir: Path) -> Path:
    found = in_home(run_dir, Path(os.environ.get("SMRFED_HOME", "")))
    return found if found.exists() else run_dir


#: For commands that read a run; ``$SMRFED_HOME`` says where names are looked up.
RunPath = Annotated[
    Path,
    typer.Argument(
        help="run directory, or its name in SMRFED_HOME", metavar="RUN_DIR", callback=_named
    ),
]
#: ``--home``, for commands that need the coordinator's folder itself; by default this one.
Home = Annotated[
    Path, typer.Option("--home", envvar="SMRFED_HOME", help="the coordinator's folder")
]
HERE = Path()
