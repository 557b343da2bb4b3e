"""A run that nobody takes is told, and a driver that hangs without ending is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy_federation
from driver_runs import FakeTime, drive_on
from test_watchdog import CRASHED, RUNNING, Coordinator
from toy_federation import COORDINATOR_KEY, ToyTransport, make_plan, make_run, site_keys

from server.flower.control import RunStatus
from server.rounds.driver import RoundDriver
from server.rounds.events import Event
from server.rounds.host import breathing
from server.rounds.settings import DriverSettings
from server.watchdog.progress import driven_by
from server.watchdog.watchdog import Watchdog
from shared_model.protocol.keys import create_signing_key, load_signing_key

PENDING = RunStatus("pending", "", "")
_HOLDS = """
import sys, time
from pathlib import Path
from server.checkpoints.run_directory import RunDirectory
with RunDirectory.open(Path(sys.argv[1])).lock():
    print("holds", flush=True)
    time.sleep(600)
"""


class Watched(Coordinator):
    """Its watchdog's monotonic clock is the test's too."""

    def restart(self) -> None:
        self.watchdog = Watchdog(
            self.home, self.link, self.settings, lambda: self.now, lambda: self.now
        )


@pytest.fixture
def coordinator(tmp_path: Path) -> Watched:
    made = Watched(tmp_path)
    made.want()
    assert made.look().state == "running"
    return made


@pytest.fixture
def stopped_driver(coordinator: Watched) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the run's lock and is then stopped, as a hung one is."""
    command = [sys.executable, "-c", _HOLDS, str(coordinator.directory.path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        os.kill(process.pid, signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_driver_that_hangs_while_its_flower_run_goes_on_is_ended_and_started_again(
    coordinator: Watched, stopped_driver: subprocess.Popen[str]
) -> None:
    coordinator.look()
    for _ in range(5):
        coordinator.look(600.0)
        assert stopped_driver.poll() is None
    coordinator.look(700.0)
    assert stopped_driver.wait(10) == -signal.SIGKILL
    events = (coordinator.directory.path / "events.jsonl").read_text()
    assert f"SMR-E537 process {stopped_driver.pid} gave no sign of life" in events
    coordinator.link.end(CRASHED)  # no heartbeat
    coordinator.look()
    assert coordinator.look(11.0).state == "running"
    assert len(coordinator.link.runs) == 2


def test_a_driver_that_hangs_after_its_flower_run_is_ended_sooner(
    coordinator: Watched, stopped_driver: subprocess.Popen[str]
) -> None:
    coordinator.link.end(CRASHED)
    for _ in range(6):
        coordinator.look(100.0)
        assert stopped_driver.poll() is None
    coordinator.look(200.0)
    assert stopped_driver.wait(10) == -signal.SIGKILL
    coordinator.look(1.0)
    assert len(coordinator.link.runs) == 2


def test_a_driver_that_breathes_is_left_alone_however_long_it_waits(
    coordinator: Watched, stopped_driver: subprocess.Popen[str]
) -> None:
    for hour in range(10):
        os.utime(coordinator.directory.path / "lock", (hour, hour))
        coordinator.look(3000.0)
    assert stopped_driver.poll() is None


def test_a_process_that_does_not_hold_the_lock_is_never_ended(coordinator: Watched) -> None:
    """The number in the lock may come from another machine or container, and mean anybody here."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        try:
            with coordinator.directory.lock():
                (coordinator.directory.path / "lock").write_text(str(stranger.pid))
                for _ in range(5):
                    coordinator.look(2000.0)
                assert driven_by(coordinator.directory.path) == str(stranger.pid)
                assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_driver_that_waits_gives_signs_of_life(tmp_path: Path) -> None:
    run, fake = make_run(tmp_path / "run", make_plan("a", "b")), FakeTime()
    with run.lock():
        lock = run.path / "lock"
        seen = []

        def sleep(seconds: float) -> None:
            seen.append((seconds, lock.stat().st_mtime > 1.0))
            os.utime(lock, (1.0, 1.0))
            fake.sleep(seconds)

        breathing(run, sleep)(150.0)
    assert seen == [(60.0, True), (60.0, True), (30.0, True)]
    os.utime(lock, (1.0, 1.0))
    drive_on(run, ToyTransport("a", "b"))
    assert lock.stat().st_mtime > 1.0


def test_a_run_that_nobody_takes_is_told_until_somebody_does(
    coordinator: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator.link.end(PENDING)
    assert coordinator.look().problem is None
    assert coordinator.look(60.0).problem is None
    assert str(coordinator.look(70.0).problem).startswith("SMR-E538 Flower run 0")
    coordinator.look(1000.0)
    assert [r.getMessage() for r in caplog.records if "SMR-E538" in r.getMessage()] == [
        "study: SMR-E538 Flower run 0 is taken by no SuperExec; see that smrfed-coordinator up "
        "runs one"
    ]
    coordinator.link.end(RUNNING)
    assert coordinator.look().problem is None


def test_a_new_signing_key_signs_the_next_round_of_a_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sites obey the new key alone once round 2 is saved; nobody resumes the run."""
    directory, fake = make_run(tmp_path / "run", make_plan("a", "b")), FakeTime()
    new = create_signing_key(tmp_path / "new.pem")
    current = [COORDINATOR_KEY]

    def observe(event: Event) -> None:
        if event.kind == "round_saved" and event.round == 2:
            current[0] = load_signing_key(tmp_path / "new.pem")
            monkeypatch.setattr(toy_federation, "COORDINATOR_KEY", new)

    result = RoundDriver(
        directory.plan,
        directory,
        ToyTransport("a", "b"),
        lambda: current[0],
        site_keys(directory.plan),
        observe,
        settings=DriverSettings.in_process(),
        clock=fake.clock,
        sleep=fake.sleep,
    ).run()
    assert [record.accepted for record in result.history] == [("a", "b")] * 4
    assert result.finalised.accepted == ("a", "b")
