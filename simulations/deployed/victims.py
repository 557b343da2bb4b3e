"""Every process of a supervised federation by name, so that one can be killed or measured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil

from shared_model.supervision.state_file import read_states
from simulations.deployed.supervised import SupervisedFederation


def processes(federation: SupervisedFederation) -> dict[str, psutil.Process]:
    """``coordinator/superlink``, ``north/node``, ``north/carrier`` (one message's courier), ...

    ``.../up`` is a supervisor. Only what runs at this moment.
    """
    found: dict[str, psutil.Process] = {}
    for name, pid in _pids(federation):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            found[name] = process
            if name == "coordinator/superexec":
                _add_task(found, "coordinator/serverapp", process)
            elif name.endswith("/courier"):
                _add_task(found, name.replace("/courier", "/carrier"), process)
    return found


def _pids(federation: SupervisedFederation) -> Iterator[tuple[str, int]]:
    folders: dict[str, Path] = {"coordinator": federation.home.logs}
    folders |= {n: s.state.path / "logs" for n, s in federation.sites.items()}
    for owner, folder in folders.items():
        supervisor = federation.processes[owner]
        if not supervisor.running:
            continue
        yield f"{owner}/up", supervisor.pid
        for state in read_states(folder / "processes.json"):
            if state["pid"] is not None:
                yield f"{owner}/{state['name']}", int(state["pid"])


def _add_task(found: dict[str, psutil.Process], name: str, superexec: psutil.Process) -> None:
    """The newest live child of a SuperExec: it starts one per task."""
    alive = [c for c in superexec.children() if c.status() != psutil.STATUS_ZOMBIE]
    if alive:
        found[name] = max(alive, key=lambda child: child.create_time())
