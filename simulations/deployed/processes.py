"""Child processes that are started together, logged, waited for with a bound, and always ended."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from shared_model.errors import SmrfedError
from shared_model.supervision.child import Child
from shared_model.supervision.guarded import Guardian

_POLL_S = 0.05


class ProcessSet:
    """The processes of one run; a context manager that leaves none behind.

    Ended in the reverse order of their start on leaving the block, by an exception and by Ctrl-C as
    well. A guardian process ends them when this process is killed.
    """

    def __init__(self, log_directory: Path, environment: Mapping[str, str]) -> None:
        self._logs = log_directory
        self._environment = dict(environment)
        self._children: dict[str, Child] = {}
        self._guardian = Guardian()

    def __enter__(self) -> ProcessSet:
        self._logs.mkdir(parents=True, exist_ok=True)
        self._guardian.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            for name in reversed(list(self._children)):
                self.stop([name])
        finally:
            # Should a second Ctrl-C have come meanwhile, the guardian ends what is left.
            self._guardian.close()

    def __getitem__(self, name: str) -> Child:
        return self._children[name]

    @property
    def children(self) -> tuple[Child, ...]:
        """Processes that were started and not stopped, in the order of their start."""
        return tuple(self._children.values())

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Child:
        """Start a process; its output goes to ``NAME.log``, appended across restarts.

        One of the same name must have ended, or is ended now.
        """
        self.stop([name])
        log = self._logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**self._environment, **(environment or {})},
                # The FAB and the Python path must not depend on where the user stands.
                cwd=self._logs,
                start_new_session=True,
            )
        self._guardian.add(process.pid)
        child = Child(name, process, log)
        self._children[name] = child
        return child

    def stop(self, names: Sequence[str], grace_s: float = 10.0) -> None:
        """End processes and everything they started, all at the same time."""
        children = [self._children[name] for name in names if name in self._children]
        for child in children:
            child.terminate()
        deadline = time.monotonic() + grace_s
        for child in children:
            child.reap(deadline)
            del self._children[child.name]
            self._guardian.remove(child.pid)

    def wait_until(
        self, ready: Callable[[], bool], what: str, timeout_s: float, needs: Sequence[str] = ()
    ) -> None:
        """Wait for a condition, at most ``timeout_s`` seconds.

        Raises SMR-E553 when one of the processes named in ``needs`` ends meanwhile, and SMR-E554
        when the time is up; both show the end of a log.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            for name in needs:
                child = self._children[name]
                if not child.running:
                    raise SmrfedError(
                        "SMR-E553",
                        f"process {name!r} ended while the federation waited for {what}",
                        found=f"exit status {child.exit_status}; {child.log_tail()}",
                        remedy=f"read {child.log}",
                    )
            if time.monotonic() > deadline:
                raise SmrfedError(
                    "SMR-E554",
                    f"{what}: not reached within {timeout_s:g} s",
                    found="; ".join(f"{n}: {self._children[n].log_tail()}" for n in needs) or None,
                    remedy=f"read the logs in {self._logs}; on a slow machine, wait longer",
                )
            time.sleep(_POLL_S)


def free_ports(count: int) -> tuple[int, ...]:
    """TCP ports on loopback that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(int(one.getsockname()[1]) for one in sockets)
