"""``smrfed-site receipts bundles``: app bundles that the pinned courier refused."""

from __future__ import annotations

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
    # Not in a table: a digest that is cut off cannot be compared.
    for line in lines:
        run = "".join(c for c in line.flower_run_id if c.isdigit())[:32]
        told = f"{line.time[:19]} UTC  {line.bundle_sha256}  {line.bytes:,} bytes  Flower run {run}"
        out.print(told, soft_wrap=True, markup=False, highlight=False)
    out.print(f"{len(lines)} lines, chain verified; 50 a day at most")
