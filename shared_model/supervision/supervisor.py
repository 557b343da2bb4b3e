"""Keeps a few processes running: starts, logs, restarts with back-off, ends them in order."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared_model.errors import SmrfedError
from shared_model.supervision.answering import Answering
from shared_model.supervision.child import Child, tail
from shared_model.supervision.guarded import Guardian
from shared_model.supervision.log_file import LogFile
from shared_model.supervision.process_spec import ProcessSpec, ProcessState, ending
from shared_model.supervision.state_file import write_states

_POLL_S = 0.2
_READY_S = 60.0
_LINES_OF_REASON = 8
_BEGIN = "==== started"


@dataclass
class _Kept:
    spec: ProcessSpec
    state: ProcessState
    child: Child | None = None
    copying: threading.Thread | None = None
    answering: Answering | None = None
    started: float = 0.0
    next_start: float = 0.0


class Supervisor:
    """Runs processes until it is told to stop; every one has a process group and a log of its own.

    They start in the order given, each after the one before it is ready (or a minute has passed),
    and end in the reverse order. When this process is killed, a guardian ends them.

    Args:
        specs: what to run.
        state_file: JSON with where each process stands, rewritten at each change.
        gave_up: makes the error that :meth:`run` raises when an essential process ends for good.
        tell: called with each changed state.
        look: called with the running children every second of the first minute and every half a
            minute later; what it raises ends everything.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        state_file: Path,
        gave_up: Callable[[ProcessSpec, ProcessState, str], SmrfedError],
        *,
        tell: Callable[[ProcessState], None] = lambda _: None,
        look: Callable[[Sequence[Child]], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kept = [_Kept(spec, ProcessState(spec.name, "waiting")) for spec in specs]
        self._state_file = state_file
        self._gave_up = gave_up
        self._tell = tell
        self._look = look
        self._clock = clock
        self._stopping = False
        self._guardian = Guardian()

    def run(self) -> None:
        """Supervise until :meth:`stop` or a signal; raises the error of ``gave_up``."""
        self._guardian.start()
        begin = looked = self._clock()
        try:
            while not self._stopping:
                self._guardian.check()
                self._start_due()
                for kept in self._kept:
                    self._watch(kept)
                now = self._clock()
                if now - looked > (1.0 if now - begin < _READY_S else 30.0):
                    looked = now
                    self._look([k.child for k in self._kept if k.child is not None])
                time.sleep(_POLL_S)
        finally:
            self._stop_all()

    def stop(self) -> None:
        """Let :meth:`run` end everything and return; safe in a signal handler."""
        self._stopping = True  # no lock: this may run in a signal handler

    def stop_on_signals(self) -> None:
        """SIGTERM and Ctrl-C stop the supervisor."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())

    @property
    def states(self) -> tuple[ProcessState, ...]:
        """Where each process stands."""
        return tuple(kept.state for kept in self._kept)

    def _start_due(self) -> None:
        for kept in self._kept:
            now = self._clock()
            if kept.state.state in ("waiting", "restarting") and now >= kept.next_start:
                self._start(kept)
            ready = kept.spec.ready
            first_start = kept.state.state == "running" and kept.state.starts == 1
            if ready is not None and first_start and now - kept.started < _READY_S and not ready():
                return

    def _start(self, kept: _Kept) -> None:
        spec = kept.spec
        spec.before_start()
        spec.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = LogFile(spec.log)
        log.write(f"{_BEGIN} {datetime.now(UTC).isoformat(timespec='seconds')}\n".encode())
        read_end, write_end = os.pipe()
        try:
            process = subprocess.Popen(
                spec.command,
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=subprocess.STDOUT,
                env=dict(spec.environment),
                # What a process imports must not depend on where its operator stands.
                cwd=spec.log.parent,
                start_new_session=True,
            )
        except OSError as error:
            os.close(read_end)
            os.close(write_end)
            self._failed(kept, None, f"cannot be started: {error}")
            return
        os.close(write_end)
        self._guardian.add(process.pid)
        kept.child = Child(spec.name, process, spec.log)
        kept.copying = log.copy_from(read_end)
        kept.started = self._clock()
        if spec.answers is not None:
            kept.answering = Answering(spec.answers, self._clock)
        starts = kept.state.starts + 1
        self._set(kept, state="running", pid=process.pid, starts=starts, detail="")

    def _watch(self, kept: _Kept) -> None:
        child = kept.child
        if child is None:
            return
        if child.running:
            if kept.state.failures and self._clock() - kept.started > kept.spec.restart.steady_s:
                self._set(kept, failures=0)
            stuck = kept.spec.stuck()
            if stuck is not None:
                self._end(kept, self._clock())
                self._failed(kept, None, f"{stuck}, and was killed")
                return
            silent_s = 0.0 if kept.answering is None else kept.answering.silent_s()
            if silent_s > kept.spec.silent_s:
                self._end(kept, self._clock())
                self._failed(kept, None, f"gave no answer for {silent_s:.0f} s and was killed")
            return
        status = child.exit_status
        self._end(kept, self._clock())
        self._failed(kept, status, ending(status))

    def _failed(self, kept: _Kept, status: int | None, how: str) -> None:
        policy = kept.spec.restart
        failures = kept.state.failures + 1
        # What an earlier start wrote explains nothing now.
        text = tail(kept.spec.log, _LINES_OF_REASON).rpartition(f"{_BEGIN} ")[2]
        known = kept.spec.explain(text)
        how = how if known is None else f"{how}: {known}"
        if policy.hopeless(failures):
            detail = f"{how}, {failures} times in a row"
            self._set(kept, state="given up", pid=None, failures=failures, exit_status=status,
                      detail=detail)  # fmt: skip
            if kept.spec.essential:
                raise self._gave_up(kept.spec, kept.state, text)
            return
        wait = policy.delay_s(failures)
        kept.next_start = self._clock() + wait
        self._set(kept, state="restarting", pid=None, failures=failures, exit_status=status,
                  detail=f"{how}; again in {wait:.0f} s")  # fmt: skip

    def _stop_all(self) -> None:
        try:
            for kept in reversed(self._kept):
                if kept.child is not None:
                    kept.child.terminate()
                    self._end(kept, time.monotonic() + kept.spec.stop_grace_s)
                    self._set(kept, state="stopped", pid=None, detail="")
        finally:
            self._guardian.close()

    def _end(self, kept: _Kept, deadline: float) -> None:
        child = kept.child
        assert child is not None
        child.reap(deadline)
        self._guardian.remove(child.pid)
        if kept.copying is not None:
            kept.copying.join(1.0)
        kept.child = None

    def _set(self, kept: _Kept, **changed: Any) -> None:
        if "state" in changed:
            changed["since"] = datetime.now(UTC).isoformat(timespec="seconds")
        kept.state = replace(kept.state, **changed)
        write_states(self._state_file, [asdict(k.state) for k in self._kept])
        if "state" in changed:
            self._tell(kept.state)
