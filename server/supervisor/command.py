"""``smrfed-coordinator up``: the coordinator's processes under one supervisor."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import click
import typer
from rich.console import Console

from server.config import CoordinatorFolder
from shared_model.supervision.process_spec import ProcessState

_out = Console()

Home = Annotated[
    Path, typer.Option("--home", envvar="SMRFED_HOME", help="the coordinator's folder")
]
Without = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        help="do not run this one; may be given again",
        click_type=click.Choice(["enrolment-service", "watch", "dashboard", "metrics"]),
    ),
]


def up(context: typer.Context, home: Home = Path(), without: Without = None) -> None:
    """Run the coordinator's processes, start again what dies, end all with SIGTERM or Ctrl-C."""
    from server.supervisor.up import (
        check_coordinator,
        coordinator_specs,
        gave_up,
        only_loopback,
        state_file,
    )
    from shared_model.supervision.supervisor import Supervisor

    folder = CoordinatorFolder(home)
    check_coordinator(folder, datetime.datetime.now(datetime.UTC))
    group = context.find_root().command
    existing = group.commands if isinstance(group, click.Group) else {}
    supervisor = Supervisor(
        coordinator_specs(folder, set(existing), without or ()),
        state_file(folder),
        gave_up,
        tell=_tell,
        look=only_loopback,
    )
    supervisor.stop_on_signals()
    supervisor.run()


def _tell(state: ProcessState) -> None:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    _out.print(f"{now} {state.line()}", markup=False, highlight=False, soft_wrap=True)
