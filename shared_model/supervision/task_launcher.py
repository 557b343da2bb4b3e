"""What a SuperExec calls an executor: starts one program for every task, token on standard input.

Flower's own starts a program named after the task's type and writes the task's token on its command
line, where every user of the machine can read it. Knows Flower by its method names only.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from shared_model.supervision.token import start_with_token


class TaskLauncher:
    """Starts ``program`` with Flower's options for a task, whatever type the task says to have.

    A task of another type is not left lying, because its SuperNode would wait for it for ever; the
    program refuses its bundle like any other.

    Args:
        program: what is started; the options follow it.
        accepted, failed: make Flower's answers.
    """

    def __init__(
        self,
        program: Sequence[str],
        accepted: Callable[[], Any],
        failed: Callable[[str], Any],
    ) -> None:
        self._program = tuple(program)
        self._accepted = accepted
        self._failed = failed
        self._started: list[subprocess.Popen[bytes]] = []

    def get_eligible_capacity(
        self, supported_task_types: set[Any], **_: Any
    ) -> tuple[set[Any], set[str]]:
        """Every task may be taken now."""
        return supported_task_types, set()

    def wait_for_capacity(self, *_: Any, **__: Any) -> None:
        """There is always room."""

    def launch(self, spec: Any) -> Any:
        """Start the program for one task."""
        trust = ["--insecure"] if spec.insecure else []
        if spec.root_certificates_path is not None:
            trust = ["--root-certificates", str(spec.root_certificates_path)]
        parent = [] if spec.parent_pid is None else ["--parent-pid", str(spec.parent_pid)]
        options = ["--runtime-api-address", spec.runtime_api_address, *trust, *parent]
        try:
            self._started.append(start_with_token([*self._program, *options], spec.token))
        except OSError as error:
            return self._failed(f"the task's program cannot be started: {error}")
        return self._accepted()

    def reconcile(self) -> None:
        """Collect programs that have ended; called before every look for work."""
        self._started = [process for process in self._started if process.poll() is None]

    def close(self) -> None:
        """The programs end by themselves when their SuperExec is gone."""
