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
    return replace(spec, restart=replace(spec.restart, steady_s=STEADY_S))


def _site(agent: str) -> None:
    import client.supervisor.up as up

    real = up.site_specs
    up.agent_command = lambda config: (sys.executable, "-P", agent, str(config.absolute()))
    up.site_specs = lambda *given: tuple(_hasty(spec) for spec in real(*given))


def _coordinator(agent: str) -> None:
    import server.supervisor.up as up
    import server.watchdog.command as watchdog
    from server.watchdog.settings import WatchdogSettings

    real = up.coordinator_specs

    def specs(*given: object) -> tuple[ProcessSpec, ...]:
        made = []
        for spec in real(*given):  # type: ignore[arg-type]
            if spec.name == "watch":
                here = str(Path(__file__).resolve())
                line = (sys.executable, "-P", here, "coordinator", agent, *spec.command[1:])
                spec = replace(spec, command=line)
            made.append(_hasty(spec))
        return tuple(made)

    up.coordinator_specs = specs
    watchdog.WatchdogSettings = lambda: WatchdogSettings(**WATCH)


if __name__ == "__main__":
    main()
