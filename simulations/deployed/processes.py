"""Child processes that are started together, logged, waited for with a bound, and always ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from shared_model.errors import SmrfedError
from simulations.deployed import guardian

_LOG_TAIL_LINES = 15
_POLL_S = 0.05


class Child:
    """One process in a process group of its own, so that whatever it starts ends with it."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        """Process id, and id of the process group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """Exit status; negative: the signal that ended it; ``None`` while it runs."""
        return self._process.poll()

    def log_tail(self) -> str:
        """The last lines that the process wrote."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-_LOG_TAIL_LINES:])

    def kill(self) -> None:
        """``kill -9`` on the process alone, as a crash or a power cut would: for tests."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._process.wait()

    def terminate(self) -> None:
        """Ask the process to end; it ends its own children in order."""
        if self.running:
            self._process.terminate()

    def reap(self, deadline: float) -> None:
        """Wait until ``deadline`` (monotonic seconds), then kill; end what is left of the group."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(deadline - time.monotonic(), 0.0))
        guardian.end_groups([self.pid], 0.5)
        self._process.wait()


class ProcessSet:
    """The processes of one run; a context manager that leaves none behind.

    Ended in the reverse order of their start on leaving the block, by an exception and by Ctrl-C as
    well. A guardian process ends them when this process is killed.
    """

    def __init__(self, log_directory: Path, environment: Mapping[str, str]) -> None:
        self._logs = log_directory
        self._environment = dict(environment)
        self._children: dict[str, Child] = {}
        self._guardian: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ProcessSet:
        self._logs.mkdir(parents=True, exist_ok=True)
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", str(Path(guardian.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
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
            if self._guardian is not None and self._guardian.stdin is not None:
                self._guardian.stdin.close()
                self._guardian.wait()

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
        self._guard("+", process.pid)
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
            self._guard("-", child.pid)

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

    def _guard(self, sign: str, group: int) -> None:
        if self._guardian is None or self._guardian.stdin is None:
            raise RuntimeError("processes start inside the with block")
        self._guardian.stdin.write(f"{sign}{group}\n".encode())
        self._guardian.stdin.flush()


def free_ports(count: int) -> tuple[int, ...]:
    """TCP ports on loopback that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(int(one.getsockname()[1]) for one in sockets)
