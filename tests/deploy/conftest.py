"""One federation of real processes per module, and proof that none of them is left."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from loopback import Coordinator

from simulations.deployed.federation import DeployedFederation


@pytest.fixture(scope="module")
def coordinator() -> Iterator[Coordinator]:
    # Not pytest's own folder: the path of a unix socket may have 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="smrfed-") as folder:
        yield Coordinator(Path(folder))


@pytest.fixture(scope="module")
def federation(coordinator: Coordinator) -> Iterator[DeployedFederation]:
    """Started once per module; afterwards nothing that it started may be left."""
    with DeployedFederation(coordinator.sites(), coordinator.folder / "work") as running:
        groups = {child.pid for child in running.processes.children}
        yield running
        groups |= {child.pid for child in running.processes.children}
    left = [p for p in psutil.process_iter() if _group_of(p) in groups]
    assert left == []


def _group_of(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None
