"""Looks after the wanted runs of a coordinator: starts what does not run, and knows when to stop.

All that it knows is on disk (``RUN/wanted.json``) and at the SuperLink, so it may be killed and
started at any moment. A run directory is never driven twice: a run is started only when the
SuperLink knows of no Flower run on its directory that has not ended, and nobody holds its lock;
should both be wrong, the second driver is refused (SMR-E533).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from server.checkpoints.run_directory import RunDirectory
from server.config import CoordinatorFolder
from server.flower.event_log import EventLog
from server.rounds.events import Event, EventKind
from server.watchdog.failures import in_a_line, verdict
from server.watchdog.hung import SignsOfLife, end_driver
from server.watchdog.progress import driven_by, progress_of, untold
from server.watchdog.settings import WatchdogSettings
from server.watchdog.starting import Connect, SuperLink
from server.watchdog.wanted import Wanted, WantedFile, held, read_wanted
from shared_model.errors import SmrfedError

if TYPE_CHECKING:
    from server.flower.control import RunStatus

_log = logging.getLogger("smrfed.watchdog")

_HUNG = "SMR-E537"
_NOT_TAKEN = "SMR-E538"


class Watchdog:
    """Drives the runs of one home folder to their end.

    Args:
        home: whose ``runs`` are looked after.
        connect: opens a connection to the SuperLink.
        now: seconds since 1970.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        home: CoordinatorFolder,
        connect: Connect,
        settings: WatchdogSettings | None = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._connect = connect
        self._settings = settings or WatchdogSettings()
        self._now = now
        self._signs = SignsOfLife(clock)
        self._said: dict[Path, str] = {}

    def look(self) -> None:
        """Once through all runs; nothing that is wrong with one, or with the SuperLink, raises."""
        due = sorted(path.parent for path in self._home.runs.glob("*/wanted.json"))
        open_ones = [run_dir for run_dir in due if self._is_open(run_dir)]
        if not open_ones:
            return
        try:
            with self._connect() as superlink:
                for run_dir in open_ones:
                    self.look_after(run_dir, superlink)
        except SmrfedError as error:
            # Not a failure of any run: the SuperLink is restarted by whoever looks after it.
            self._say(self._home.path, f"{error.code} {error.what}")

    def look_after(self, run_dir: Path, superlink: SuperLink) -> Wanted | None:
        """One run, once; what is wanted of it afterwards. Raises SMR-E550."""
        try:
            with held(run_dir) as file:
                wanted = file.read()
                if wanted is None or not wanted.open:
                    return wanted
                after = self._next(RunDirectory.open(run_dir), wanted, superlink, file)
                if after != wanted:
                    file.write(after)
                return after
        except SmrfedError as error:
            if error.code == "SMR-E550":
                raise
            self._say(run_dir, f"{error.code} {error.what}: {error.found}")
            return None

    def _next(
        self, run: RunDirectory, wanted: Wanted, superlink: SuperLink, file: WantedFile
    ) -> Wanted:
        newest = superlink.newest_run(run.path)
        if newest is not None and not newest[1].finished:
            return self._going(run, wanted, *newest)
        if newest is not None and newest[0] != wanted.judged:
            wanted = self._judge(run, wanted, *newest)
            if not wanted.open:
                return wanted
            file.write(wanted)  # judged once, also when what follows is cut off
        if not self._is_due(wanted):
            return wanted
        holder = driven_by(run.path)
        if holder is not None:
            # Its Flower run is over; it will notice, and leave.
            self._say(run.path, f"process {holder} still drives the run; waiting for its end")
            self._end_if_hung(run, self._settings.leaving_s)
            return wanted
        number = superlink.start(run.path)
        self._tell(run, "run_started", f"Flower run {number}")
        return wanted.model_copy(
            update={
                "state": "running",
                "flower_run_id": number,
                "progress": progress_of(run.path),
            }
        )

    def _going(self, run: RunDirectory, wanted: Wanted, number: int, status: RunStatus) -> Wanted:
        """A Flower run that has not ended: nobody may have taken it, or its driver may hang."""
        waiting = status.status == "pending"
        problem = wanted.problem
        if self._signs.unchanged_s(run.path, (number, status.status)) < self._settings.pending_s:
            waiting = False
        if waiting:
            problem = f"{_NOT_TAKEN} Flower run {number} is taken by no SuperExec"
            self._say(run.path, f"{problem}; see that smrfed-coordinator up runs one")
        elif str(problem).startswith(_NOT_TAKEN):
            problem = None
        if status.status == "running":
            self._end_if_hung(run, self._settings.silent_s)
        return wanted.model_copy(
            update={"state": "running", "flower_run_id": number, "problem": problem}
        )

    def _end_if_hung(self, run: RunDirectory, limit_s: float) -> None:
        silent_s = self._signs.silent_s(run.path)
        if silent_s < limit_s:
            return
        ended = end_driver(run.path)
        if ended is None:
            what = "the driver gives no sign of life and cannot be ended from here"
            self._say(run.path, f"{_HUNG} {what}")
            return
        what = f"{_HUNG} process {ended} gave no sign of life for {silent_s:.0f} s and was ended"
        self._tell(run, "run_failed", what)

    def _judge(self, run: RunDirectory, wanted: Wanted, number: int, end: RunStatus) -> Wanted:
        """What the end of a Flower run makes of a wanted one."""
        wanted = wanted.model_copy(update={"judged": number, "flower_run_id": number})
        got_on = progress_of(run.path) != wanted.progress
        if got_on:
            wanted = wanted.model_copy(update={"attempts": 0, "stuck_since": 0.0})
        missing = untold(run)
        if end.completed and not missing:
            return self._closed(run, wanted, "finished", None)
        if not end.completed and end.sub_status == "stopped":
            return self._closed(run, wanted, "stopped", "stopped at the SuperLink")
        if end.completed:
            reason = f"finished; not told the result yet: {', '.join(missing)}"
            what = "wait"
        else:
            reason = in_a_line(end.details or end.sub_status)
            what = verdict(end.details)
        if what == "never":
            problem = f"SMR-E526 it would fail the same way each time: {reason}"
            return self._closed(run, wanted, "given_up", problem)
        since = wanted.stuck_since or self._now()
        if what == "wait":
            if self._now() - since > self._settings.patience_s:
                state = "finished" if end.completed else "given_up"
                return self._closed(run, wanted, state, f"SMR-E524 waited in vain: {reason}")
            pause, attempts = self._settings.wait_s, wanted.attempts
        else:
            attempts = wanted.attempts + 1
            if attempts >= self._settings.attempts:
                problem = f"SMR-E524 {attempts} starts without progress; the last: {reason}"
                return self._closed(run, wanted, "given_up", problem)
            pause = self._settings.pause(attempts)
        self._tell(run, "run_failed", f"{reason}; started again in {pause:.0f} s")
        return wanted.model_copy(
            update={
                "state": "waiting",
                "attempts": attempts,
                "stuck_since": since,
                "not_before": self._now() + pause,
                "problem": reason,
            }
        )

    def _closed(self, run: RunDirectory, wanted: Wanted, state: str, problem: str | None) -> Wanted:
        kind: EventKind = "run_given_up" if state == "given_up" else "run_left"
        self._tell(run, kind, problem or state)
        return wanted.model_copy(
            update={"state": state, "problem": problem, "wanted": state == "given_up"}
        )

    def _is_due(self, wanted: Wanted) -> bool:
        """Whether the pause is over, or longer than any pause is: the clock was set back."""
        left = wanted.not_before - self._now()
        return left <= 0 or left > max(self._settings.longest_backoff_s, self._settings.wait_s)

    def _is_open(self, run_dir: Path) -> bool:
        try:
            wanted = read_wanted(run_dir)
        except SmrfedError as error:
            self._say(run_dir, f"{error.code} {error.what}")
            return False
        return wanted is not None and wanted.open

    def _tell(self, run: RunDirectory, kind: EventKind, reason: str) -> None:
        level = logging.ERROR if kind == "run_given_up" else logging.INFO
        _log.log(level, "run %s: %s: %s", run.run_id, kind.replace("_", " "), reason)
        number = _round(run.path)
        try:
            EventLog(run.path)(Event(kind, number, run.plan.training.rounds, "train", None, reason))
        except OSError as error:
            _log.warning("run %s: no event could be written: %s", run.run_id, error)

    def _say(self, about: Path, what: str) -> None:
        """A line for what lasts: once, until something else is said about it."""
        if self._said.get(about) != what:
            self._said[about] = what
            _log.warning("%s: %s", about.name, what)


def _round(run_dir: Path) -> int:
    try:
        return int((run_dir / "latest").read_text())
    except (OSError, ValueError):
        return 0
