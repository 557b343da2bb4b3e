"""``smrfed-site metrics``: on a loopback port, or into a file for node_exporter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.commands.display import DEFAULT_CONFIG, ConfigPath, err
from client.config import SiteConfig
from client.observability.site_metrics import site_metrics
from shared_model.observability.metrics_command import serve_or_write

DEFAULT_PORT = 9465

Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="port on 127.0.0.1")]
Textfile = Annotated[
    Path | None,
    typer.Option("--textfile", help="write the figures to this *.prom file instead, and end"),
]


def metrics(
    config: ConfigPath = DEFAULT_CONFIG, port: Port = DEFAULT_PORT, textfile: Textfile = None
) -> None:
    """Figures for the hospital's own Prometheus; they are about no patient and stay here."""
    # A configuration that cannot be read is told at the start.
    SiteConfig.load(config)
    serve_or_write(
        lambda: site_metrics(SiteConfig.load(config)),
        port,
        textfile,
        lambda text: err.print(text, markup=False, highlight=False),
    )
