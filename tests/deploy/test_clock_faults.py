"""The time of day is set while a run goes on: at every machine, at the coordinator, at a hospital.

Flower refuses a node whose clock differs by more than five minutes, and reckons heartbeats, nonces
and the life of messages by the time of day. So a clock that is wrong shuts hospitals out; once it
is right again the run must go on by itself to the same bits.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_phases import PATIENCE_S, PHASES, ROUNDS, Watched, until
from stepped_clock import SteppedClock

from server.rounds.releases import released_body
from shared_model.protocol.arrays import body_digest
from simulations.deployed.supervised import SupervisedFederation, toy_plan
from simulations.deployed.undisturbed import undisturbed_sha256

pytestmark = [pytest.mark.deploy, pytest.mark.slow, pytest.mark.timeout(3600)]

SITES = ("north", "south")
WRONG_FOR_S = 60.0
HOUR_S = 3600.0
Clocks = dict[str, SteppedClock]


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[SupervisedFederation, Clocks]]:
    plan = toy_plan(SITES, ROUNDS, min_sites=len(SITES), deadline_s=600.0)
    with tempfile.TemporaryDirectory(prefix="smrfed-") as made:
        folder = Path(made)
        clocks = {name: SteppedClock(folder / f"{name}-clock") for name in ("coordinator", *SITES)}
        wrap = {name: clock.inside for name, clock in clocks.items()}
        without = ("dashboard", "metrics", "enrolment-service")
        with SupervisedFederation(folder / "f", plan, without=without, wrap=wrap) as federation:
            for site in federation.sites.values():
                site.behave(work_s=1.5)
            yield federation, clocks


@pytest.fixture(scope="module")
def expected() -> str:
    plan = toy_plan(SITES, ROUNDS, min_sites=len(SITES), deadline_s=600.0)
    with tempfile.TemporaryDirectory() as folder:
        return undisturbed_sha256(plan, Path(folder))


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S], ids=["ahead", "back"])
@pytest.mark.parametrize("whose", ["everybody", "coordinator", "north"])
def test_a_clock_that_is_set_needs_nobody(
    machines: tuple[SupervisedFederation, Clocks], expected: str, whose: str, step_s: float
) -> None:
    federation, clocks = machines
    until(lambda: federation.online() == set(SITES), "everybody")
    run = federation.new_run(f"{whose}-{'ahead' if step_s > 0 else 'back'}")
    watched = Watched(federation, run)
    moved = list(clocks.values()) if whose == "everybody" else [clocks[whose]]
    federation.want(run)
    watched.wait_for("while training")
    began = time.monotonic()
    for clock in moved:
        clock.set_to(step_s)
    try:
        # Where all clocks agree nothing has to be put right before the next rounds.
        if whose == "everybody":
            watched.wait_for("between rounds")
        else:
            time.sleep(WRONG_FOR_S)
    finally:
        for clock in moved:
            clock.set_to(0.0)
    finished = federation.wait_finished(run, PATIENCE_S)
    print(whose, step_s, f"{time.monotonic() - began:.0f} s from the step to the end")
    assert body_digest(released_body(finished)) == expected
    told = finished.finalised()
    assert told is not None
    assert told.accepted == SITES
    for site in federation.sites.values():
        charged = [entry.round for entry in site.charges() if entry.run_id == run.run_id]
        assert charged == list(range(1, ROUNDS + 1))
        assert [site.computed(run.run_id, number) for number in charged] == [1] * ROUNDS
    assert PHASES["between rounds"] < ROUNDS
