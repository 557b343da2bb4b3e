"""A wire that is cut and mended, and a slow one, between one hospital and the coordinator."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_phases import PATIENCE_S, PHASES, Watched, until
from wire import HERE, Wire, missing

from server.checkpoints.run_directory import RunDirectory
from server.rounds.releases import released_body
from shared_model.protocol.arrays import body_digest
from simulations.deployed.supervised import SupervisedFederation, toy_plan
from simulations.deployed.undisturbed import undisturbed_sha256

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

SITES = ("north", "south")
ROUNDS = 3


@pytest.fixture(scope="module")
def far() -> Iterator[tuple[SupervisedFederation, Wire]]:
    """Both hospitals are needed for every round; one is at the end of a wire."""
    plan = toy_plan(SITES, ROUNDS, min_sites=2, deadline_s=600.0)
    with (
        tempfile.TemporaryDirectory(prefix="smrfed-") as folder,
        Wire() as wire,
        SupervisedFederation(
            Path(folder), plan, wrap={"north": wire.inside}, host=HERE, before_start=wire.forward
        ) as federation,
    ):
        federation.sites["north"].behave(work_s=1.5)
        yield federation, wire


def require_same_bits(federation: SupervisedFederation, run: RunDirectory, folder: Path) -> None:
    assert body_digest(released_body(run)) == undisturbed_sha256(run.plan, folder)
    for site in federation.sites.values():
        charged = [entry.round for entry in site.charges() if entry.run_id == run.run_id]
        assert charged == [1, 2, 3]
        assert [site.computed(run.run_id, number) for number in charged] == [1, 1, 1]


@pytest.mark.parametrize("phase", ["while training", "while the reply is on its way"])
@pytest.mark.parametrize("away_s", [8.0, 75.0], ids=["short", "long"])
def test_a_cut_wire_that_is_mended_needs_nobody(
    far: tuple[SupervisedFederation, Wire], tmp_path: Path, phase: str, away_s: float
) -> None:
    """Longer than a minute, the SuperLink takes the site for gone, and takes it back."""
    federation, wire = far
    until(lambda: federation.online() == set(SITES), "everybody")
    run = federation.new_run(f"cut-{PHASES[phase]}-{away_s:.0f}")
    federation.want(run)
    Watched(federation, run).wait_for(phase)
    wire.cut()
    time.sleep(away_s)
    wire.mend()
    require_same_bits(federation, federation.wait_finished(run, PATIENCE_S), tmp_path)


def test_a_slow_wire_changes_nothing(
    far: tuple[SupervisedFederation, Wire], tmp_path: Path
) -> None:
    """64 kbit/s: a modem. An update of 12 kB takes seconds, and so does a TLS handshake."""
    federation, wire = far
    until(lambda: federation.online() == set(SITES), "everybody")
    wire.at_rate("64kbit", latency="4s", burst="4kb")
    try:
        run = federation.new_run("slow-wire")
        federation.want(run)
        require_same_bits(federation, federation.wait_finished(run, PATIENCE_S), tmp_path)
    finally:
        wire.mend()
