"""``smrfed-site receipts bundles``: app bundles that the pinned courier refused."""

from __future__ import annotations

from rich.table import Table

from client.commands.display import DEFAULT_CONFIG, AsJson, ConfigPath, out, print_json
from client.config import SiteConfig
from client.courier.refused_bundles import FILE_NAME, refused_bundles


def bundles(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List app bundles that were refused because the hospital had not allowed them."""
    site = SiteConfig.load(config)
    lines = refused_bundles(site.connection.path / FILE_NAME).read()
    if as_json:
        print_json([line.model_dump(mode="json") for line in lines])
        return
    if not lines:
        out.print("no app bundle was refused")
        return
    table = Table("time (UTC)", "SHA-256", "bytes", "Flower run")
    for line in lines:
        run = "".join(c for c in line.flower_run_id if c.isdigit())[:32]
        table.add_row(line.time[:19], line.bundle_sha256, f"{line.bytes:,}", run)
    out.print(table)
    out.print(f"{len(lines)} lines, chain verified; 50 a day at most")
