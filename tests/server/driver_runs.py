"""Toy runs of the round driver, in which seconds pass only while it sleeps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from toy_federation import COORDINATOR_KEY, make_run, site_keys

from server.checkpoints.run_directory import RunDirectory
from server.rounds.driver import RoundDriver, RunResult
from server.rounds.events import Event, Observer
from server.rounds.records import RoundRecord, SiteOutcome
from server.rounds.settings import DriverSettings
from server.rounds.transport import Transport
from shared_model.plan import FederationPlan

NAMES = ("a", "b", "c")
PATIENT = DriverSettings(poll_interval_s=1.0, retry_interval_s=2.0, absent_grace_s=20.0)


class FakeTime:
    """Seconds that pass only while the driver sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def run(
    path: Path,
    plan: FederationPlan,
    transport: Transport,
    settings: DriverSettings | None = None,
    observer: object = None,
) -> RunResult:
    directory = make_run(path, plan)
    return drive(directory, plan, transport, settings, observer)


def drive(directory, plan, transport, settings=None, observer=None) -> RunResult:
    fake = FakeTime()
    return RoundDriver(
        plan,
        directory,
        transport,
        COORDINATOR_KEY,
        site_keys(plan),
        observer,
        settings=settings or DriverSettings.in_process(),
        clock=fake.clock,
        sleep=fake.sleep,
    ).run()


def drive_on(
    directory: RunDirectory, transport: Transport, observer: Observer | None = None
) -> RunResult:
    """Drive a directory in-process, from wherever it stands, by its own plan."""
    return RoundDriver(
        directory.plan,
        directory,
        transport,
        COORDINATOR_KEY,
        site_keys(directory.plan),
        observer,
        settings=DriverSettings.in_process(),
    ).run()


class StopError(Exception):
    """Ends a run from within its observer."""


def stop_after(events: int) -> Observer:
    """An observer that lets so many events pass and ends the run at the next one."""
    seen = 0

    def interrupt(_: Event) -> None:
        nonlocal seen
        seen += 1
        if seen > events:
            raise StopError

    return interrupt


def outcomes(records: Iterable[RoundRecord]) -> list[dict[str, SiteOutcome]]:
    """What became of every site in every round, without the seconds that it took."""
    return [
        {n: site.model_copy(update={"seconds": None}) for n, site in record.sites.items()}
        for record in records
    ]
