"""``smrfed-coordinator up``: the coordinator's processes under one supervisor."""

from __future__ import annotations

import datetime
from typing import Annotated

import click
import typer
from rich.console import Console

from server.config import CoordinatorFolder
from server.run_path import HERE, Home
from shared_model.supervision.process_spec import ProcessState

_out = Console()

Without = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        help="do not run this one; may be given again",
        click_type=click.Choice(["enrolment-service", "watch", "dashboard", "metrics"]),
    ),
]


def up(context: typer.Context, home: Home = HERE, without: Without = None) -> None:
    """Run the coordinator's processes, start again what dies, end all with SIGTERM or Ctrl-C."""
    from server.supervisor.up import (
        Looking,
        check_coordinator,
        coordinator_specs,
        gave_up,
        renew_certificate,
        state_file,
    )
    from shared_model.supervision.only_one import only_one, require_free_port
    from shared_model.supervision.supervisor import Supervisor

    folder = CoordinatorFolder(home)
    renew_certificate(folder)
    check_coordinator(folder, datetime.datetime.now(datetime.UTC))
    group = context.find_root().command
    existing = group.commands if isinstance(group, click.Group) else {}
    supervisor = Supervisor(
        coordinator_specs(folder, set(existing), without or ()),
        state_file(folder),
        gave_up,
        tell=_tell,
        look=Looking(folder),
    )
    with only_one((folder.logs,), "SMR-E552", "smrfed-coordinator up"):
        require_free_port(folder.config.superlink_port, "SMR-E552", "superlink_port")
        supervisor.stop_on_signals()
        supervisor.run()


def _tell(state: ProcessState) -> None:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    _out.print(f"{now} {state.line()}", markup=False, highlight=False, soft_wrap=True)
