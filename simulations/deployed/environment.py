"""The environment in which Flower's processes run on one machine: nothing is worth a long wait."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared_model.supervision.environment import command, flower_environment

__all__ = ["command", "offline_environment", "offline_process"]

_POLL_S = 0.1


def offline_environment(flower_home: Path) -> dict[str, str]:
    """Variables for one Flower process with a home of its own."""
    return flower_environment(flower_home, poll_interval_s=_POLL_S)


@contextmanager
def offline_process(flower_home: Path) -> Iterator[None]:
    """The same for this process and what it starts, until the block is left."""
    # Flower reads the variable once, and may have been imported long before.
    from flwr.supercore import telemetry

    before, telemetry_before = dict(os.environ), telemetry.FLWR_TELEMETRY_ENABLED
    os.environ.update(offline_environment(flower_home))
    telemetry.FLWR_TELEMETRY_ENABLED = "0"
    try:
        yield
    finally:
        telemetry.FLWR_TELEMETRY_ENABLED = telemetry_before
        os.environ.clear()
        os.environ.update(before)
