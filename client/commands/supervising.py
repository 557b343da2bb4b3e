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
    from client.supervisor.up import check_site, gave_up, log_folders, site_specs, state_file
    from shared_model.supervision.only_one import only_one, require_free_port
    from shared_model.supervision.supervisor import Supervisor

    site = SiteConfig.load(config)
    check_site(site, processes, datetime.datetime.now(datetime.UTC))
    supervisor = Supervisor(
        site_specs(config, site, processes), state_file(site, processes), gave_up, tell=_tell
    )
    with only_one(log_folders(site, processes), "SMR-E479", "smrfed-site up"):
        if processes != "agent":
            require_free_port(site.node_port, "SMR-E479", "node_port")
        supervisor.stop_on_signals()
        supervisor.run()


def _tell(state: ProcessState) -> None:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    out.print(f"{now} {state.line()}", markup=False, highlight=False, soft_wrap=True)
