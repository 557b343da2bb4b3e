"""``smrfed-coordinator dashboard``: the read-only web page of one coordinator's folder."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from server.config import CoordinatorFolder
from server.run_path import HERE, Home
from shared_model.errors import SmrfedError

_TOKEN = "dashboard.token"


def dashboard(
    home: Home = HERE,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=0,
            max=65535,
            help="on loopback; default: as in coordinator.toml, or 18002",
        ),
    ] = None,
) -> None:
    """Serve the dashboard on loopback; it ends with SIGTERM or Ctrl-C."""
    # Figures load numpy, a moment that the other commands need not wait.
    from server.dashboard.app import PRODUCT, Dashboard
    from shared_model.local_page.server import PageServer
    from shared_model.local_page.token_file import load_or_create_token
    from shared_model.supervision.end_signals import EndSignals

    folder = CoordinatorFolder(home)
    file = folder.path / _TOKEN
    token, new = load_or_create_token(file)
    end = EndSignals()
    chosen = _port(folder) if port is None else port
    with PageServer(chosen, token, Dashboard(folder), PRODUCT) as server:
        console = Console(soft_wrap=True, highlight=False)
        console.print(f"dashboard of {folder.path} on {server.address}", markup=False)
        # Under a supervisor this is a log, which never holds a secret.
        if new and sys.stdout.isatty():
            console.print(f"log in, once: {server.address}login#token={token}", markup=False)
        console.print(f"the token is in {file}", markup=False)
        end.wait()


def _port(folder: CoordinatorFolder) -> int:
    """The configured port; a folder of runs alone, without configuration, has the usual one."""
    try:
        return folder.config.dashboard_port
    except SmrfedError:
        if (folder.path / "coordinator.toml").exists():
            raise
        return 18002
