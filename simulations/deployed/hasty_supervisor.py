"""The two ``up`` commands with stand-in agents, and weeks of patience compressed into minutes.

Run as ``python -P hasty_supervisor.py site AGENT_PY up --config ...`` or ``... coordinator -  up
--home ...``. Only waits are shorter than in a real installation: a process that ran for some
seconds counts as steady, so that a soak with many restarts does not look like one that fails again
and again, and the watchdog tries again after seconds. What is done is the installed code's.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from shared_model.supervision.process_spec import ProcessSpec

STEADY_S = 6.0
WATCH = {"interval_s": 1.0, "backoff_s": 2.0, "wait_s": 5.0}


def main() -> None:
    """Patch the waits, then be the installed command."""
    _, side, agent, *arguments = sys.argv
    if side == "site":
        _site(agent)
        from client.cli import main as command

        sys.argv = ["smrfed-site", *arguments]
    else:
        _coordinator(agent)
        from server.cli import main as command

        sys.argv = ["smrfed-coordinator", *arguments]
    command()


def _hasty(spec: ProcessSpec) -> ProcessSpec:
    restart = replace(spec.restart, steady_s=STEADY_S)
    # A SuperNode's least pause is one that Flower demands; a renewal has nobody to ask here.
    if spec.name not in ("node", "renewal"):
        restart = replace(restart, first_s=min(restart.first_s, 2.0), factor=1.3)
    return replace(spec, restart=restart)


def _site(agent: str) -> None:
    import client.supervisor.up as up

    real = up.site_specs

    def command(config: Path) -> tuple[str, ...]:
        return (sys.executable, "-P", agent, str(config.absolute()))

    def specs(*given: Any) -> tuple[ProcessSpec, ...]:
        return tuple(_hasty(spec) for spec in real(*given))

    _replace(up, agent_command=command, site_specs=specs)


def _coordinator(agent: str) -> None:
    import server.supervisor.up as up
    import server.watchdog.command as watchdog
    from server.watchdog.settings import WatchdogSettings

    real = up.coordinator_specs

    def specs(*given: Any) -> tuple[ProcessSpec, ...]:
        made = []
        for spec in real(*given):
            if spec.name == "watch":
                here = str(Path(__file__).resolve())
                line = (sys.executable, "-P", here, "coordinator", agent, *spec.command[1:])
                spec = replace(spec, command=line)
            made.append(_hasty(spec))
        return tuple(made)

    _replace(up, coordinator_specs=specs)
    _replace(watchdog, WatchdogSettings=lambda: WatchdogSettings.model_validate(WATCH))


def _replace(module: ModuleType, **names: object) -> None:
    for name, value in names.items():
        # A name that is gone would leave everything as patient, or as heavy, as in a hospital.
        if not hasattr(module, name):
            raise AttributeError(f"{module.__name__} has no {name}")
        setattr(module, name, value)


if __name__ == "__main__":
    main()
