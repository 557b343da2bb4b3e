"""Secure sums over real processes: sites killed in each phase, within one deadline."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fault_phases import until

from server.checkpoints.run_directory import RunDirectory
from server.rounds.releases import released_body
from shared_model.protocol.keys import create_signing_key
from simulations.deployed.federation import LOOPBACK_DRIVER
from simulations.deployed.summed_toys import summed_parameters, summed_toy_plan
from simulations.deployed.supervised import SupervisedFederation
from simulations.deployed.victims import processes

pytestmark = [pytest.mark.deploy, pytest.mark.slow, pytest.mark.timeout(3600)]

SITES = ("east", "north", "south", "west")
DEADLINE_S = 90.0
DRIVER = LOOPBACK_DRIVER.model_copy(
    update={"absent_grace_s": DEADLINE_S, "attempt_pause_s": 1.0, "returning_grace_s": DEADLINE_S}
)
# Before the first question, between two, and after the last answer.
OVERHEAD_S = 90.0


@pytest.fixture(scope="module")
def federation() -> Iterator[SupervisedFederation]:
    with tempfile.TemporaryDirectory(prefix="smrfed-") as name:
        folder = Path(name)
        keys = {}
        (folder / "keys").mkdir()
        for site in SITES:
            made = create_signing_key(folder / "keys" / f"{site}.key")
            keys[site] = made.public_key().public_bytes_raw().hex()
        plan = summed_toy_plan(
            keys, training={"rounds": 2}, federation={"round_deadline_s": DEADLINE_S}
        )
        with SupervisedFederation(folder / "f", plan, signing_keys=folder / "keys") as running:
            yield running


def kill_site(federation: SupervisedFederation, name: str) -> None:
    """Everything that a hospital runs, at once, as by a power cut; nothing starts it again."""
    federation.leave_down(name)
    for process, found in processes(federation).items():
        if process.startswith(f"{name}/"):
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(found.pid, signal.SIGKILL)


def driven(federation: SupervisedFederation, run: RunDirectory, kind: str, dead: list[str]) -> None:
    """A run in whose first round these sites die while they work on a question of a kind."""
    until(lambda: federation.online() == set(SITES), "everybody")
    for site in dead:
        federation.sites[site].behave(work_s=8.0)
    federation.want(run)
    try:
        for site in dead:
            notes = federation.sites[site].notes
            begun = f"computing {run.run_id} {kind} 1"
            until(lambda notes=notes, begun=begun: begun in notes(), begun)
            kill_site(federation, site)
        until(lambda: run.latest().round >= 1, "the first round")
    finally:
        for site in dead:
            federation.sites[site].behave()
            federation.keep_up(site)
    federation.wait_finished(run, 900)


@pytest.mark.parametrize("kind", ["keys", "shares", "train", "unmask"])
def test_a_round_goes_on_without_a_site_killed_in_any_phase(
    federation: SupervisedFederation, kind: str
) -> None:
    run = federation.new_run(f"one-{kind}", DRIVER)
    driven(federation, run, kind, ["west"])
    finished = RunDirectory.open(run.path)
    history = finished.latest().history
    first = history[0]
    print(kind, [(r.kind, r.seconds) for record in history for r in record.exchanges])
    assert first.void is None
    assert ("west" in first.accepted) == (kind == "unmask")
    # One deadline for the site that died, whatever phase it died in; no other phase waits.
    waits = [one.seconds > DEADLINE_S for one in first.exchanges]
    assert sum(waits) <= 1
    assert sum(one.seconds for one in first.exchanges) <= DEADLINE_S + OVERHEAD_S
    counted = {record.round: record.accepted for record in history}
    initial = (run.path / "initial.safetensors").read_bytes()
    assert released_body(finished) == summed_parameters(run.plan, initial, counted)


@pytest.mark.parametrize("kind", ["train", "unmask"])
def test_a_round_with_too_few_sites_left_is_void(
    federation: SupervisedFederation, kind: str
) -> None:
    run = federation.new_run(f"two-{kind}", DRIVER)
    driven(federation, run, kind, ["west", "south"])
    finished = RunDirectory.open(run.path)
    history = finished.latest().history
    first = history[0]
    print(kind, [(r.kind, r.seconds) for record in history for r in record.exchanges])
    assert first.void is not None
    assert ("SMR-E137" if kind == "train" else "SMR-E138") in first.void
    assert sum(one.seconds for one in first.exchanges) <= DEADLINE_S + OVERHEAD_S
    counted = {record.round: record.accepted for record in history}
    initial = (run.path / "initial.safetensors").read_bytes()
    assert released_body(finished) == summed_parameters(run.plan, initial, counted)
