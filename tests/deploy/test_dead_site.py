"""A hospital dead from round 3 of 10 costs at most one deadline in total, however it is dead."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from fault_phases import Watched, until
from wire import HERE, Wire, missing

from server.checkpoints.run_directory import RunDirectory
from server.rounds.releases import released_body
from shared_model.protocol.arrays import body_digest
from simulations.deployed.federation import LOOPBACK_DRIVER
from simulations.deployed.supervised import SupervisedFederation, toy_plan
from simulations.deployed.undisturbed import undisturbed_sha256
from simulations.deployed.victims import processes

pytestmark = [pytest.mark.deploy, pytest.mark.slow, pytest.mark.timeout(3600)]

SITES = ("north", "south", "west")
ROUNDS, DEAD_FROM, DEADLINE_S = 10, 3, 60.0
DRIVER = LOOPBACK_DRIVER.model_copy(update={"absent_grace_s": DEADLINE_S})


class Far:
    """The federation whose hospital in the west is at the end of a wire, where that is possible."""

    def __init__(self, federation: SupervisedFederation, wire: Wire | None) -> None:
        self.federation = federation
        self.wire = wire

    def hang_agent(self) -> Callable[[], object]:
        # Its supervisor too, which would end an agent that gives no answer and start another.
        found = processes(self.federation)
        pids = [found["west/up"].pid, found["west/agent"].pid]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        return lambda: [os.kill(pid, signal.SIGCONT) for pid in reversed(pids)]

    def stop_supernode(self) -> Callable[[], object]:
        self.federation.leave_down("west")
        os.kill(processes(self.federation)["west/up"].pid, signal.SIGTERM)
        return lambda: self.federation.keep_up("west")

    def cut_network(self) -> Callable[[], object]:
        if self.wire is None:
            pytest.skip(missing())
        self.wire.cut()
        return self.wire.mend


@pytest.fixture(scope="module")
def far() -> Iterator[Far]:
    plan = toy_plan(SITES, ROUNDS, min_sites=2, deadline_s=DEADLINE_S)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smrfed-")))
        wire = None if missing() else stack.enter_context(Wire())
        federation = (
            SupervisedFederation(folder, plan)
            if wire is None
            else SupervisedFederation(
                folder, plan, wrap={"west": wire.inside}, host=HERE, before_start=wire.forward
            )
        )
        yield Far(stack.enter_context(federation), wire)


def waited_s(federation: SupervisedFederation, run: RunDirectory) -> list[float]:
    """Per exchange: how long it went on for the west after everybody else was in."""
    found, quorum_in = [], None
    for event in federation.events(run):
        at = datetime.fromisoformat(str(event["at"])).timestamp()
        if event["kind"] in ("round_started", "site_accepted"):
            quorum_in = at
        elif event["kind"] == "site_set_aside" and event["site"] == "west":
            assert quorum_in is not None
            found.append(at - quorum_in)
    return found


@pytest.mark.parametrize("way", ["hang_agent", "stop_supernode", "cut_network"])
def test_a_dead_site_costs_one_deadline(far: Far, way: str) -> None:
    federation = far.federation
    until(lambda: federation.online() == set(SITES), "everybody")
    run = federation.new_run(way.replace("_", "-"), DRIVER)
    watched = Watched(federation, run)
    federation.want(run)
    until(lambda: watched.told("round_saved", DEAD_FROM - 1), "two rounds")
    revive = getattr(far, way)()
    try:
        until(lambda: run.finalised() is not None, "the result")
        history = RunDirectory.open(run.path).latest().history
        counted = [record.round for record in history if "west" in record.accepted]
        waited = waited_s(federation, run)
        print(way, "counted in", counted, "waited", waited, [r.seconds for r in history])
        # It may have answered the question that was on its way when it died.
        assert counted in ([1, 2], [1, 2, 3])
        assert len(waited) == ROUNDS - len(counted) + 1  # and at the end, to tell the result
        # In deadlines; the times of the events are whole seconds.
        assert sum(waited) <= DEADLINE_S + 2 * len(waited), waited
        assert sum(seconds > DEADLINE_S / 3 for seconds in waited) <= 1, waited
        # Nobody was waited for by repeating a round, either.
        assert all(record.attempts == 1 for record in history)
    finally:
        revive()
    # It comes back, and is told the result without anybody's help.
    finished = federation.wait_finished(run, 600)
    told = finished.finalised()
    assert told is not None
    assert told.accepted == SITES
    expected = undisturbed_sha256(
        run.plan,
        federation.folder / way,
        {"west": [number for number in range(1, ROUNDS + 1) if number not in counted]},
    )
    assert body_digest(released_body(finished)) == expected
    charged = [e.round for e in federation.sites["west"].charges() if e.run_id == run.run_id]
    assert len(charged) == len(set(charged))
