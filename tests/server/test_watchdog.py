"""The watchdog over a SuperLink that tests make fail, with seconds that tests let pass."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from driver_runs import drive_on
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_federation import ToyTransport, make_plan, make_run

from server.config import CoordinatorFolder
from server.flower.control import RunStatus
from server.flower.event_log import EventFollower
from server.watchdog.failures import verdict
from server.watchdog.settings import WatchdogSettings
from server.watchdog.wanted import Wanted, held, read_wanted
from server.watchdog.watchdog import Watchdog
from shared_model.errors import SmrfedError

RUNNING = RunStatus("running", "", "")
COMPLETED = RunStatus("finished", "completed", "")
CRASHED = RunStatus("finished", "failed", "No heartbeat received from the task")
STOPPED = RunStatus("finished", "stopped", "")


def failed(code: str) -> RunStatus:
    details = f"ServerApp failed with exception: [{code}] what\n  remedy: that"
    return RunStatus("finished", "failed", details)


@dataclass
class FakeSuperLink:
    runs: list[tuple[Path, RunStatus]] = field(default_factory=list)
    down: bool = False
    dies_after_start: bool = False

    @contextmanager
    def __call__(self) -> Iterator[FakeSuperLink]:
        if self.down:
            raise SmrfedError("SMR-E550", "the SuperLink did not agree", remedy="start it")
        yield self

    def newest_run(self, run_dir: Path) -> tuple[int, RunStatus] | None:
        mine = [(n, status) for n, (path, status) in enumerate(self.runs) if path == run_dir]
        return mine[-1] if mine else None

    def start(self, run_dir: Path) -> int:
        assert all(s.finished for path, s in self.runs if path == run_dir), "driven twice"
        self.runs.append((run_dir, RUNNING))
        if self.dies_after_start:
            raise KeyboardInterrupt
        return len(self.runs) - 1

    def stop_run(self, run_id: int) -> None:
        self.end(STOPPED)

    def end(self, status: RunStatus) -> None:
        self.runs[-1] = (self.runs[-1][0], status)


class Coordinator:
    """A home folder with one run, a watchdog, and the time of day."""

    def __init__(self, folder: Path) -> None:
        self.home = CoordinatorFolder(folder)
        self.now = 1_800_000_000.0
        self.link = FakeSuperLink()
        self.directory = make_run(self.home.runs / "study", make_plan("a", "b"))
        self.settings = WatchdogSettings()
        self.restart()

    def restart(self) -> None:
        """A new watchdog: the old one was killed."""
        self.watchdog = Watchdog(self.home, self.link, self.settings, lambda: self.now)

    def want(self) -> None:
        with held(self.directory.path) as file:
            file.write(Wanted())

    def look(self, seconds: float = 0.0) -> Wanted:
        self.now += seconds
        self.watchdog.look()
        wanted = read_wanted(self.directory.path)
        assert wanted is not None
        return wanted

    def save_a_round(self) -> None:
        """One round more on disk, as a driver leaves it when it is killed."""
        saved = self.directory.path / "latest"
        number = int(saved.read_text()) + 1 if saved.exists() else 1
        saved.write_text(f"{number:05d}\n")


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return Coordinator(tmp_path)


def test_only_wanted_runs_are_started_and_once(coordinator: Coordinator) -> None:
    coordinator.watchdog.look()
    assert coordinator.link.runs == []
    coordinator.want()
    assert coordinator.look().state == "running"
    for _ in range(3):
        coordinator.look(100.0)
    assert len(coordinator.link.runs) == 1


def test_a_crashed_run_is_started_again_after_growing_pauses_and_then_given_up(
    coordinator: Coordinator,
) -> None:
    coordinator.want()
    pauses = []
    follower = EventFollower(coordinator.directory.path)
    while (wanted := coordinator.look()).open:
        started, count = coordinator.now, len(coordinator.link.runs)
        coordinator.link.end(CRASHED)
        while len(coordinator.link.runs) == count and coordinator.look(5.0).open:
            pass
        pauses.append(coordinator.now - started)
    assert [round(p) for p in pauses[:4]] == [15, 25, 45, 85]
    assert len(coordinator.link.runs) == coordinator.settings.attempts
    assert wanted.state == "given_up"
    assert str(wanted.problem).startswith("SMR-E524 8 starts without progress; the last: No heart")
    coordinator.look(1e6)
    assert len(coordinator.link.runs) == coordinator.settings.attempts
    kinds = [event.kind for event in follower.new()]
    assert kinds.count("run_started") == 8
    assert kinds[-1] == "run_given_up"
    # A person settled it and asks again.
    coordinator.want()
    assert coordinator.look().state == "given_up" or coordinator.look(11.0).state == "running"


def test_a_run_that_gets_on_is_started_again_for_ever(coordinator: Coordinator) -> None:
    coordinator.want()
    for _ in range(12):
        assert coordinator.look(60.0).state == "running"
        coordinator.save_a_round()
        coordinator.link.end(CRASHED)
        coordinator.look()
    assert len(coordinator.link.runs) == 12


@pytest.mark.parametrize("code", ["SMR-E118", "SMR-E521", "SMR-E532", "SMR-E555", "SMR-E572"])
def test_a_run_that_fails_the_same_way_each_time_is_not_hammered(
    coordinator: Coordinator, code: str
) -> None:
    coordinator.want()
    coordinator.look()
    coordinator.link.end(failed(code))
    wanted = coordinator.look()
    assert wanted.state == "given_up"
    assert str(wanted.problem).startswith("SMR-E526 ")
    assert code in str(wanted.problem)
    coordinator.look(1e6)
    assert len(coordinator.link.runs) == 1


@pytest.mark.parametrize("code", ["SMR-E520", "SMR-E523", "SMR-E534"])
def test_a_run_that_lacks_sites_or_space_is_tried_as_long_as_patience_lasts(
    coordinator: Coordinator, code: str
) -> None:
    assert coordinator.settings.patience_s == 7 * 86400
    coordinator.settings = WatchdogSettings(patience_s=6000.0)
    coordinator.restart()
    coordinator.want()
    begin = coordinator.now
    while (wanted := coordinator.look(150.0)).open:
        if wanted.state == "running":
            coordinator.link.end(failed(code))
    assert 6000 < coordinator.now - begin < 7500
    # More often than a run may crash.
    assert len(coordinator.link.runs) in (9, 10)
    assert "SMR-E524 waited in vain" in str(wanted.problem)
    assert code in str(wanted.problem)


def test_a_watchdog_killed_right_after_a_start_does_not_start_twice(
    coordinator: Coordinator,
) -> None:
    coordinator.want()
    coordinator.link.dies_after_start = True
    with pytest.raises(KeyboardInterrupt):
        coordinator.watchdog.look()
    coordinator.link.dies_after_start = False
    coordinator.restart()
    wanted = coordinator.look()
    assert wanted.state == "running"
    assert wanted.flower_run_id == 0
    assert len(coordinator.link.runs) == 1


def test_a_directory_that_is_still_driven_is_left_alone(coordinator: Coordinator) -> None:
    """Flower took the run for dead; its process has not noticed yet."""
    coordinator.want()
    coordinator.look()
    with coordinator.directory.lock():
        coordinator.link.end(CRASHED)
        coordinator.look()
        coordinator.look(100.0)
        assert len(coordinator.link.runs) == 1
    coordinator.look(1.0)
    assert len(coordinator.link.runs) == 2


def test_looking_at_the_lock_keeps_nobody_out(coordinator: Coordinator) -> None:
    from server.watchdog.progress import driven_by

    path = coordinator.directory.path
    assert driven_by(path) is None
    with coordinator.directory.lock():
        assert driven_by(path) is not None
        with pytest.raises(SmrfedError, match="SMR-E533"), coordinator.directory.lock():
            pass
    with (path / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_an_absent_superlink_is_no_failure_of_the_run(coordinator: Coordinator) -> None:
    coordinator.want()
    coordinator.look()
    coordinator.link.down = True
    for _ in range(20):
        coordinator.look(60.0)
    coordinator.link.down = False
    coordinator.link.end(CRASHED)
    assert coordinator.look().attempts == 1
    # A SuperLink that came back without its database knows of no run at all.
    coordinator.link.runs.clear()
    assert coordinator.look(11.0).state == "running"
    assert len(coordinator.link.runs) == 1


def test_a_run_that_somebody_stopped_stays_stopped(coordinator: Coordinator) -> None:
    coordinator.want()
    coordinator.look()
    coordinator.link.end(STOPPED)
    assert coordinator.look().state == "stopped"
    coordinator.look(1e6)
    assert len(coordinator.link.runs) == 1


def test_a_clock_that_was_set_back_does_not_put_a_start_off(coordinator: Coordinator) -> None:
    coordinator.want()
    coordinator.look()
    coordinator.link.end(failed("SMR-E520"))
    coordinator.look()
    coordinator.now -= 365 * 86400.0
    assert coordinator.look().state == "running"


def test_a_finished_run_is_started_again_only_for_sites_that_were_not_told(
    coordinator: Coordinator,
) -> None:
    from server.rounds.transport import Failure

    def unreachable(site, message, reply):
        return Failure("gone") if b'"finalise"' in message.header else reply

    coordinator.want()
    coordinator.look()
    drive_on(coordinator.directory, ToyTransport("a", "b", faults={"b": unreachable}))
    coordinator.link.end(COMPLETED)
    wanted = coordinator.look()
    assert wanted.state == "waiting"
    assert wanted.problem == "finished; not told the result yet: b"
    assert coordinator.look(601.0).state == "running"
    drive_on(coordinator.directory, ToyTransport("a", "b"))
    coordinator.link.end(COMPLETED)
    assert coordinator.look().state == "finished"
    coordinator.look(1e6)
    assert len(coordinator.link.runs) == 2


def test_a_damaged_file_concerns_its_own_run_only(coordinator: Coordinator) -> None:
    coordinator.want()
    other = make_run(coordinator.home.runs / "other", make_plan("a", "b")).path
    (other / "wanted.json").write_text("{")
    stray = coordinator.home.runs / "stray"
    stray.mkdir()
    (stray / "wanted.json").write_text(Wanted().model_dump_json())
    assert coordinator.look().state == "running"
    assert [path.name for path, _ in coordinator.link.runs] == ["study"]


def test_what_is_unknown_is_tried_again() -> None:
    assert verdict("") == verdict("Task failed with unknown error.") == "again"
    assert verdict("[SMR-E999] new") == "again"


steps = st.lists(
    st.sampled_from(
        ["look", "look", "wait", "crash", "quorum", "round", "restart", "cut off", "down", "up"]
    ),
    max_size=40,
)


@settings(max_examples=25, deadline=None)
@given(steps=steps)
def test_whatever_happens_a_run_is_driven_once_at_a_time_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    coordinator = Coordinator(tmp_path_factory.mktemp("law"))
    coordinator.settings = WatchdogSettings(attempts=100)
    coordinator.restart()
    coordinator.want()
    link = coordinator.link
    for step in steps:
        running = bool(link.runs) and not link.runs[-1][1].finished
        if step in ("crash", "quorum") and running:
            link.end(CRASHED if step == "crash" else failed("SMR-E520"))
        elif step == "round" and running:
            coordinator.save_a_round()
        elif step == "restart":
            coordinator.restart()
        elif step == "wait":
            coordinator.now += 700.0
        elif step in ("down", "up"):
            link.down = step == "down"
        else:
            link.dies_after_start = step == "cut off"
            try:
                coordinator.watchdog.look()  # the SuperLink refuses a second run by itself
            except KeyboardInterrupt:
                coordinator.restart()
            link.dies_after_start = False
    link.down = False
    for _ in range(3):
        wanted = coordinator.look(3700.0)
    assert wanted.state == "running"
    assert not link.runs[-1][1].finished
