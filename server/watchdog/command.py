"""``smrfed-coordinator run | stop | watch``."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from server.checkpoints.run_directory import RunDirectory
from server.config import CoordinatorFolder
from server.flower.event_log import EventFollower
from server.rounds.participation import participation
from server.rounds.progress import progress_bar
from server.run_path import HERE, Home, RunPath, in_home
from server.watchdog.progress import untold
from server.watchdog.settings import WatchdogSettings
from server.watchdog.starting import connect_to, prepare
from server.watchdog.wanted import Wanted, held, read_wanted
from server.watchdog.watchdog import Watchdog
from shared_model.errors import SmrfedError
from shared_model.supervision.end_signals import EndSignals

_LOOK_S = 1.0
_AGAIN_S = 0.1
_out = Console()


def run(
    run_dir: RunPath,
    home: Home = HERE,
    detach: Annotated[bool, typer.Option("--detach", help="start it and return at once")] = False,
) -> None:
    """Drive a run to its end, new or half-done, and show how it goes; Ctrl-C only stops looking.

    The run is marked as wanted: the watchdog starts it again after whatever ends it.
    """
    folder = CoordinatorFolder(home)
    opened = RunDirectory.open(in_home(run_dir, home))
    connect = connect_to(folder)
    _require_inside(folder, opened.path)
    prepare(opened, folder)
    follower = EventFollower(opened.path)
    with held(opened.path) as file:
        before = file.read() or Wanted()
        file.write(Wanted(flower_run_id=before.flower_run_id, judged=_judged(before)))
    watchdog = Watchdog(folder, connect)
    try:
        with connect() as superlink:
            watchdog.look_after(opened.path, superlink)
    except SmrfedError as error:
        if not is_watched(folder):
            raise
        _out.print(f"{error.code} {error.what}; the watchdog starts the run", markup=False)
    if not is_watched(folder):
        _out.print(
            "no watchdog runs: start smrfed-coordinator watch (or up), or nobody resumes the run",
            style="yellow",
        )
    if detach:
        _out.print(f"{opened.run_id} is wanted; see smrfed-coordinator status", markup=False)
        return
    try:
        _follow(opened, folder, watchdog, follower)
    except KeyboardInterrupt:
        _out.print(f"\nno longer shown; {opened.run_id} goes on", markup=False)


def stop(run_dir: RunPath, home: Home = HERE) -> None:
    """Stop a run until it is wanted again; its finished rounds stay, and nothing is lost."""
    folder = CoordinatorFolder(home)
    opened = RunDirectory.open(in_home(run_dir, home))
    with held(opened.path) as file:
        before = file.read() or Wanted()
        file.write(before.model_copy(update={"wanted": False, "state": "stopped"}))
        with connect_to(folder)() as superlink:
            newest = superlink.newest_run(opened.path)
            if newest is not None and not newest[1].finished:
                superlink.stop_run(newest[0])
    _out.print(f"{opened.run_id} is stopped; smrfed-coordinator run goes on with it", markup=False)


def watch(
    home: Home = HERE,
    once: Annotated[bool, typer.Option("--once", help="look once, then end")] = False,
    interval_s: Annotated[
        float | None, typer.Option(min=0.1, help="seconds between two looks")
    ] = None,
) -> None:
    """Start wanted runs again when they fail, until they finish; may be restarted at any moment."""
    folder = CoordinatorFolder(home)
    folder.config  # noqa: B018 - a folder that is none is refused here (SMR-E590)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    settings = WatchdogSettings()
    if interval_s is not None:
        settings = settings.model_copy(update={"interval_s": interval_s})
    end = EndSignals()
    with _only_one(folder, tries=30):
        watchdog = Watchdog(folder, connect_to(folder), settings)
        while True:
            watchdog.look()
            if once or end.wait(settings.interval_s):
                return


def _follow(
    opened: RunDirectory, folder: CoordinatorFolder, watchdog: Watchdog, follower: EventFollower
) -> None:
    """Show events until the run is finished, given up or stopped; SMR-E557 when nobody resumes."""
    with progress_bar(_out) as observer:
        while True:
            for event in follower.new():
                observer(event)
            wanted = read_wanted(opened.path)
            if wanted is None or not wanted.open or _only_tells(opened, wanted):
                break
            if wanted.state == "waiting" and not is_watched(folder):
                raise _failed(wanted)
            # Without a watchdog this process sees how the run ended; it starts nothing anew.
            if not is_watched(folder):
                try:
                    with connect_to(folder)() as superlink:
                        watchdog.look_after(opened.path, superlink)
                except SmrfedError as error:
                    if error.code != "SMR-E550":
                        raise
            time.sleep(_LOOK_S)
        for event in follower.new():
            observer(event)
    if wanted is not None and wanted.state == "given_up":
        raise _failed(wanted)
    over = wanted is not None and (wanted.state == "finished" or _only_tells(opened, wanted))
    _out.print(f"{opened.run_id}: {'finished' if over else 'stopped'}", markup=False)
    if not over:
        return
    if missing := untold(opened):
        told = f"not told the result: {', '.join(missing)}; the watchdog tries again"
        _out.print(told, style="yellow", markup=False)
    for warning in participation(opened).warnings:
        _out.print(f"WARNING: {warning}", style="yellow", markup=False)


def _only_tells(opened: RunDirectory, wanted: Wanted) -> bool:
    """Whether the result is there, and the run goes on only for hospitals that do not know it."""
    return wanted.state == "waiting" and opened.finalised() is not None


def _failed(wanted: Wanted) -> SmrfedError:
    code = "SMR-E557" if wanted.state == "waiting" else str(wanted.problem)[:9]
    titles = {
        "SMR-E524": "the run was started again and again and got nowhere",
        "SMR-E526": "the run fails in the same way each time, so it is not started again",
    }
    return SmrfedError(
        code,
        titles.get(code, "the run failed; its finished rounds are saved"),
        found=str(wanted.problem),
        remedy="settle the cause (its number has a page), then say smrfed-coordinator run again",
    )


def _judged(before: Wanted) -> int | None:
    """What ended before the operator asked again is no failure of the new try."""
    return before.flower_run_id if before.judged is None else before.judged


def _require_inside(folder: CoordinatorFolder, run_dir: Path) -> None:
    """Raise SMR-E529 for a run that the watchdog of this folder would never see."""
    if run_dir.resolve().parent != folder.runs.resolve():
        raise SmrfedError(
            "SMR-E529",
            f"the run {run_dir} does not lie among the runs of this coordinator",
            expected=f"a folder in {folder.runs}",
            remedy="create runs there, or name their home with --home",
        )


def is_watched(folder: CoordinatorFolder) -> bool:
    """Whether a watchdog looks after the folder now."""
    try:
        with _only_one(folder):
            return False
    except SmrfedError:
        return True


@contextmanager
def _only_one(folder: CoordinatorFolder, tries: int = 1) -> Iterator[None]:
    """Hold the folder as its watchdog; raises SMR-E527 while another process does."""
    descriptor = os.open(
        folder.path / "watchdog.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        # Whoever only asks whether there is a watchdog holds the lock for a moment.
        while not _locked(descriptor):
            tries -= 1
            if not tries:
                raise SmrfedError(
                    "SMR-E527",
                    f"another watchdog looks after {folder.path}",
                    remedy="nothing to do; stop the other one first to run it here",
                )
            time.sleep(_AGAIN_S)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
