"""``smrfed-site up``: agent, SuperNode and courier under one supervisor."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

import typer

from client.commands.display import DEFAULT_CONFIG, ConfigPath, out
from client.config import SiteConfig
from shared_model.supervision.process_spec import ProcessState

Processes = Annotated[
    Literal["all", "agent", "network"],
    typer.Option(
        "--processes",
        help="agent: what sees patients; network: SuperNode and courier, in another account",
    ),
]


def up(config: ConfigPath = DEFAULT_CONFIG, processes: Processes = "all") -> None:
    """Run this hospital's processes, start again what dies, and end all with SIGTERM or Ctrl-C."""
    from client.supervisor.up import check_site, gave_up, site_specs, state_file
    from shared_model.supervision.supervisor import Supervisor

    site = SiteConfig.load(config)
    check_site(site, processes, datetime.datetime.now(datetime.UTC))
    supervisor = Supervisor(
        site_specs(config, site, processes), state_file(site, processes), gave_up, tell=_tell
    )
    supervisor.stop_on_signals()
    supervisor.run()


def _tell(state: ProcessState) -> None:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    out.print(f"{now} {state.line()}", markup=False, highlight=False, soft_wrap=True)
