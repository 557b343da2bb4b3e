"""``smrfed-coordinator metrics``: on the loopback port of ``coordinator.toml``, or into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from server.config import CoordinatorFolder
from server.observability.coordinator_metrics import CoordinatorMetrics
from server.online_sites import online_sites
from server.run_path import HERE, Home
from shared_model.observability.metrics_command import serve_or_write

_err = Console(stderr=True, soft_wrap=True)

Port = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65535, help="port on 127.0.0.1; default: metrics_port"),
]
Textfile = Annotated[
    Path | None,
    typer.Option("--textfile", help="write the figures to this *.prom file instead, and end"),
]
Offline = Annotated[
    bool,
    typer.Option("--files-only", help="read files only; do not ask the SuperLink who is there"),
]


def metrics(
    home: Home = HERE,
    port: Port = None,
    textfile: Textfile = None,
    files_only: Offline = False,
) -> None:
    """Figures for Prometheus: runs, participation, bytes, connected sites; nothing unreleased."""
    folder = CoordinatorFolder(home)
    chosen = folder.config.metrics_port if port is None else port
    serve_or_write(
        CoordinatorMetrics(folder, None if files_only else lambda: online_sites(folder)),
        chosen,
        textfile,
        lambda text: _err.print(text, markup=False, highlight=False),
    )
