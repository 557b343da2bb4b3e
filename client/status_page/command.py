"""``smrfed-site status --page``: the hospital's own page, in the foreground."""

from __future__ import annotations

import sys

from client.agent.durable import make_private_folder
from client.commands.display import out
from client.config import SiteConfig
from client.status_page.app import PRODUCT, SitePage
from shared_model.local_page.server import PageServer
from shared_model.local_page.token_file import load_or_create_token
from shared_model.supervision.end_signals import EndSignals

_TOKEN = "status-page.token"


def serve_page(site: SiteConfig, port: int) -> None:
    """Serve it on loopback until SIGTERM or Ctrl-C; raises SMR-E574 and SMR-E575."""
    file = site.state_dir / _TOKEN
    make_private_folder(file.parent)
    token, new = load_or_create_token(file)
    end = EndSignals()
    with PageServer(port, token, SitePage(site), PRODUCT) as server:
        told = [f"page of site {site.name} on {server.address}; it stays on this machine"]
        # Under a supervisor this is a log, which never holds a secret.
        if new and sys.stdout.isatty():
            told.append(f"log in, once: {server.address}login#token={token}")
        for line in [*told, f"the token is in {file}"]:
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        end.wait()
