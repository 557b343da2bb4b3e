"""The environment of Flower's processes: nothing is fetched, reported or installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_OFF = ("0", "false", "no", "off", "")

#: What Flower would do without these: report to its makers, look for updates, install packages.
SWITCHED_OFF = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "UV_OFFLINE": "1",
}
# Variables that open a second, unprotected door of a SuperLink (undocumented in Flower 1.41).
_DOORS = ("FLWR_INTERNAL_GRPC_FLEET_API", "FLWR_INTERNAL_GRPC_CONTROL_API")
_LOOPBACK = ("127.0.0.1", "localhost")


def flower_environment(
    home: Path, given: Mapping[str, str] | None = None, poll_interval_s: float = 0.5
) -> dict[str, str]:
    """Variables for one Flower process whose ``FLWR_HOME`` is ``home``.

    Of what was ``given`` (default: this process's environment) no variable of Flower's own stays.
    Proxies are bypassed for loopback; the commands of this Python environment come first on the
    path. ``poll_interval_s``: seconds between two looks of a SuperExec for work.
    """
    before = dict(os.environ if given is None else given)
    kept = {name: value for name, value in before.items() if not name.startswith("FLWR_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), before.get("PATH", os.defpath)])
    direct = {"NO_PROXY": _bypass(before, "NO_PROXY"), "no_proxy": _bypass(before, "no_proxy")}
    return {
        **kept,
        **SWITCHED_OFF,
        **direct,
        "PATH": path,
        "FLWR_HOME": str(home),
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": str(poll_interval_s),
        "OMP_NUM_THREADS": before.get("OMP_NUM_THREADS", "1"),
        "PYTHONUNBUFFERED": "1",
    }


def forced_on(given: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """``NAME=VALUE`` of variables in the environment that ask for what must stay off."""
    environment = os.environ if given is None else given
    found = []
    for name in (*SWITCHED_OFF, *_DOORS):
        if name not in environment:
            continue
        value = environment[name].strip().lower()
        wanted_off = SWITCHED_OFF.get(name, "0") == "0"
        if (value in _OFF) != wanted_off:
            found.append(f"{name}={environment[name]}")
    return tuple(found)


def command(name: str) -> str:
    """Path of a console command of this Python environment."""
    return str(Path(sys.executable).parent / name)


def _bypass(before: Mapping[str, str], name: str) -> str:
    hosts = [host for host in before.get(name, "").split(",") if host.strip()]
    return ",".join([*hosts, *(host for host in _LOOPBACK if host not in hosts)])
