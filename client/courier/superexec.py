"""The hospital's SuperExec: takes tasks from its SuperNode and starts the pinned courier for each.

Run as::

    python -P -m client.courier.superexec CONNECTION_DIR OPTIONS_OF_FLOWER_SUPEREXEC...
"""

from __future__ import annotations

import sys
from pathlib import Path

import flwr.supercore.superexec.run_superexec as flower
from flwr.supercore.cli.flower_superexec import flower_superexec
from flwr.supercore.superexec.executor import LaunchResult

from client.courier.flower_names import EXECUTOR, require_names
from shared_model.supervision.task_launcher import TaskLauncher


def courier_program(connection: Path) -> tuple[str, ...]:
    """The pinned courier; the options of ``flwr-clientapp`` follow."""
    module = (sys.executable, "-P", "-m", "client.courier.pinned")
    return (*module, "flwr-clientapp", str(connection.absolute()))


def main() -> None:
    """Run Flower's SuperExec with our launcher; raises SMR-E472 where it would not take."""
    program, connection, *options = sys.argv
    require_names(flower, "run_superexec", EXECUTOR)
    launcher = TaskLauncher(
        courier_program(Path(connection)), LaunchResult.accepted, LaunchResult.failed
    )
    flower.get_executor = lambda *_, **__: launcher
    sys.argv = [program, *options]
    flower_superexec()


if __name__ == "__main__":
    main()
