"""``smrfed-coordinator metrics``: on the loopback port of ``coordinator.toml``, or into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from server.config import CoordinatorFolder
from server.observability.coordinator_metrics import CoordinatorMetrics
from shared_model.observability.metrics_command import serve_or_write

_err = Console(stderr=True, soft_wrap=True)

Home = Annotated[
    Path, typer.Option("--home", envvar="SMRFED_HOME", help="the coordinator's folder")
]
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
    home: Home = Path(),
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


def online_sites(home: CoordinatorFolder) -> frozenset[str]:
    """Ask the SuperLink on loopback; raises SMR-E550."""
    # Flower takes a second to import; figures from files need not wait for it.
    from server.flower.control import ControlApi

    with ControlApi(home.config.superlink_address, home.authority) as control:
        return control.online_sites()
