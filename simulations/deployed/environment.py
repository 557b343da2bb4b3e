"""The environment in which Flower's processes run: nothing is fetched, reported or installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def offline_environment(flower_home: Path) -> dict[str, str]:
    """Variables for one Flower process with a home of its own.

    Telemetry, update checks and dependency installation at run time are off; proxies are bypassed
    for loopback; the commands of this Python environment come first on the path, because a
    SuperExec starts ``flwr-serverapp`` and ``flwr-clientapp`` by name.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {
        **os.environ,
        "PATH": path,
        "FLWR_HOME": str(flower_home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "UV_OFFLINE": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "PYTHONUNBUFFERED": "1",
    }


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


def command(name: str) -> str:
    """Path of a console command of this Python environment."""
    return str(Path(sys.executable).parent / name)
