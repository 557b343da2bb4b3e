"""The app bundle that Flower distributes: package data, built, and known by its hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

_DIRECTORY = "smrfed-entry"


@dataclass(frozen=True)
class AppBundle:
    """A bundle on disk, ready for ``flwr run``."""

    directory: Path
    sha256: str


def write_app_bundle(parent: Path) -> AppBundle:
    """Write the bundle to ``parent/smrfed-entry`` and compute the hash that sites may pin.

    The hash covers a zip with fixed dates over package data, so that every installation of the same
    smrfed version gets the same one.
    """
    directory = parent / _DIRECTORY
    _copy(files("server.flower") / "bundle", directory)
    # Flower's own builder; a private name, held by tests/server/test_flower_contract.py.
    from flwr.cli.build import build_fab_from_disk

    return AppBundle(directory, hashlib.sha256(build_fab_from_disk(directory)).hexdigest())


def _copy(source: Traversable, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.is_dir():
            if entry.name != "__pycache__":
                _copy(entry, target / entry.name)
        elif entry.name.endswith((".py", ".toml")):
            (target / entry.name).write_bytes(entry.read_bytes())
