"""One run's ServerApp process: refuses every app bundle but the one of this installation.

Run as::

    python -P -m server.supervisor.pinned flwr-serverapp OPTIONS_OF_FLWR_SERVERAPP...

with the task's token on standard input.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flwr.superlink.cli.flwr_serverapp import flwr_serverapp

from server.flower.fab import write_app_bundle
from server.supervisor.flower_names import REPLACED, require_names
from shared_model.errors import SmrfedError
from shared_model.supervision.token import read_token

# Not an import statement: the package has a function of the same name.
flower = importlib.import_module("flwr.superlink.runtime.run_serverapp")


def own_bundle_sha256() -> str:
    """The hash of the bundle that this installation makes."""
    with tempfile.TemporaryDirectory(prefix="smrfed-bundle-") as folder:
        return write_app_bundle(Path(folder)).sha256


def guarded(install: Callable[..., Any], allowed: str) -> Callable[..., Any]:
    """Flower's ``install_from_fab`` for one bundle alone; raises SMR-E549 for every other."""

    def install_from_fab(fab_file: Any, *arguments: Any, **options: Any) -> Any:
        content = fab_file if isinstance(fab_file, bytes) else Path(fab_file).read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != allowed:
            raise SmrfedError(
                "SMR-E549",
                "a run with a foreign app bundle was refused",
                expected=f"the bundle of this installation, SHA-256 {allowed}",
                found=f"SHA-256 {found}",
                remedy="start runs with smrfed-coordinator; if nobody here did this, find out who "
                "reaches the SuperLink's port on this machine",
            )
        return install(fab_file, *arguments, **options)

    return install_from_fab


def main() -> None:
    """Run one ServerApp."""
    require_names(flower, "run_serverapp", REPLACED)
    guard = guarded(flower.install_from_fab, own_bundle_sha256())
    vars(flower)["install_from_fab"] = guard
    sys.argv = [*sys.argv[1:], "--token", read_token()]
    flwr_serverapp()


if __name__ == "__main__":
    main()
