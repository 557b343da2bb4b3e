"""``kill -9`` of every process in every phase of a round: same bits, nothing twice, nobody acts."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_phases import PATIENCE_S, PHASES, ROUNDS, Watched, kill

from server.checkpoints.run_directory import RunDirectory
from server.rounds.releases import released_body
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import body_digest
from simulations.deployed.supervised import SupervisedFederation, toy_plan
from simulations.deployed.undisturbed import undisturbed_sha256

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(3600)]

SITES = ("north", "south")
EVERY_PROCESS = (
    "north/agent",  # the hospital's agent
    "north/carrier",  # the courier of one message
    "north/node",  # SuperNode
    "north/courier",  # the hospital's SuperExec
    "north/up",  # the hospital's supervisor
    "coordinator/serverapp",
    "coordinator/superexec",
    "coordinator/superlink",
    "coordinator/watch",
    "coordinator/enrolment-service",
    "coordinator/up",
)
# These begin a round anew when they die in the middle of its training: it is charged again.
MAY_TRAIN_AGAIN = ("north/agent", "north/up")


@functools.cache
def expected(rounds: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return undisturbed_sha256(plan(rounds), Path(folder))


def plan(rounds: int) -> FederationPlan:
    return toy_plan(SITES, rounds, min_sites=len(SITES), deadline_s=600.0)


@pytest.fixture(scope="module")
def federation() -> Iterator[SupervisedFederation]:
    without = ("dashboard", "metrics")
    with (
        tempfile.TemporaryDirectory(prefix="smrfed-") as folder,
        SupervisedFederation(Path(folder), plan(ROUNDS), without=without) as running,
    ):
        for site in running.sites.values():
            site.behave(work_s=1.5)
        yield running


def require_undisturbed(
    federation: SupervisedFederation, run: RunDirectory, again: dict[str, set[int]] | None = None
) -> None:
    """Same bits, and every round charged and trained once; ``again``: site -> rounds, twice."""
    assert body_digest(released_body(run)) == expected(run.plan.training.rounds)
    told = run.finalised()
    assert told is not None
    assert told.accepted == SITES
    for name, site in federation.sites.items():
        charged = [entry.round for entry in site.charges() if entry.run_id == run.run_id]
        for number in range(1, run.plan.training.rounds + 1):
            most = 2 if number in (again or {}).get(name, set()) else 1
            assert 1 <= site.computed(run.run_id, number) <= most, (name, number)
            # What is in the ledger is what was trained, and the budget says so.
            assert charged.count(number) == site.computed(run.run_id, number), (name, number)


def test_kills_that_heal_within_seconds() -> None:
    """What the default suite can afford: agent, watchdog and a hospital's SuperExec."""
    with (
        tempfile.TemporaryDirectory(prefix="smrfed-") as folder,
        SupervisedFederation(Path(folder), plan(2)) as federation,
    ):
        federation.sites["north"].behave(work_s=1.0)
        run = federation.new_run("fast")
        federation.want(run)
        watched = Watched(federation, run)
        watched.wait_for("while training")
        assert kill(federation, "north/agent")
        watched.wait_for("while the reply is on its way")
        assert kill(federation, "coordinator/watch")
        assert kill(federation, "south/courier")
        finished = federation.wait_finished(run, PATIENCE_S)
        require_undisturbed(federation, finished, {"north": {1}})
        assert federation.sites["north"].computed("fast", 1) == 2


@pytest.mark.slow
@pytest.mark.parametrize("process", EVERY_PROCESS)
def test_kill_9_in_every_phase(federation: SupervisedFederation, process: str) -> None:
    missed = list(PHASES)
    # A ServerApp that is still on its way back is not there to be killed: another run then.
    for attempt in range(3):
        missed = killed_in(federation, process, f"{process.replace('/', '-')}-{attempt}", missed)
        if not missed or process == "north/carrier":
            break
    # A courier lives for a message; everything else is there in every phase.
    assert len(missed) <= (3 if process == "north/carrier" else 0), missed


def killed_in(
    federation: SupervisedFederation, process: str, name: str, phases: list[str]
) -> list[str]:
    """Kill a process in these phases of one run, which must end undisturbed; the phases missed."""
    run = federation.new_run(f"killed-{name}")
    federation.want(run)
    watched = Watched(federation, run)
    missed = []
    for phase in phases:
        watched.wait_for(phase)
        if not kill(federation, process):
            missed.append(phase)
        print(process, phase, phase not in missed, flush=True)
    finished = federation.wait_finished(run, PATIENCE_S)
    disturbed = "while training" in phases and process in MAY_TRAIN_AGAIN
    require_undisturbed(
        federation, finished, {"north": {PHASES["while training"]} if disturbed else set()}
    )
    return missed
