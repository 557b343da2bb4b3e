"""The coordinator's SuperExec: starts our installed ServerApp for a run, and nothing else.

Whoever reaches the SuperLink on loopback could start a run with a bundle of his own: without this,
its code would run in the account that holds the coordinator's signing key. Run as::

    python -P -m server.supervisor.superexec OPTIONS_OF_FLOWER_SUPEREXEC...
"""

from __future__ import annotations

import sys

import flwr.supercore.superexec.run_superexec as flower
from flwr.supercore.cli.flower_superexec import flower_superexec
from flwr.supercore.superexec.executor import LaunchResult

from server.supervisor.flower_names import EXECUTOR, require_names
from shared_model.supervision.task_launcher import TaskLauncher

_SERVER_APP = (sys.executable, "-P", "-m", "server.supervisor.pinned", "flwr-serverapp")


def main() -> None:
    """Run Flower's SuperExec with our launcher; raises SMR-E548 where it would not take."""
    require_names(flower, "run_superexec", EXECUTOR)
    launcher = TaskLauncher(_SERVER_APP, LaunchResult.accepted, LaunchResult.failed)
    flower.get_executor = lambda *_, **__: launcher
    flower_superexec()


if __name__ == "__main__":
    main()
