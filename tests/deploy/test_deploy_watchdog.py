"""A wanted run over real processes ends by itself, to the same bits, whatever is killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from loopback import SITES, Coordinator
from test_deploy_run import kill_server_app, wait_for_round
from watched_home import WatchedHome

from server.checkpoints.run_directory import RunDirectory
from server.rounds.settings import DriverSettings
from server.watchdog.progress import driven_by
from shared_model.protocol.arrays import body_digest
from simulations.deployed.federation import DeployedFederation

pytestmark = pytest.mark.deploy


@pytest.fixture(scope="module")
def watched(coordinator: Coordinator, federation: DeployedFederation) -> Iterator[WatchedHome]:
    home = WatchedHome(coordinator, federation)
    home.start_watchdog()
    yield home
    home.close()


def require_undisturbed(watched: WatchedHome, run: RunDirectory) -> None:
    """The bits of a run that nothing happened to, and no site trained a round twice."""
    state = RunDirectory.open(run.path).latest()
    assert body_digest(state.body) == watched.coordinator.in_process.sha256
    for site in SITES:
        computed = watched.coordinator.started(site).read_text().split("\n")
        for number in (1, 2):
            assert computed.count(f"{run.run_id} train {number}") == 1, (site, number)


@pytest.mark.slow
def test_a_run_is_shown_to_its_end_and_stopped_and_wanted_again(watched: WatchedHome) -> None:
    run = watched.new_run("shown")
    assert watched.say("run", str(run.path), "--detach").returncode == 0
    wait_for_round(run.path, 1)
    stopped = watched.say("stop", str(run.path))
    assert stopped.returncode == 0, stopped.stderr
    assert "shown is stopped" in stopped.stdout
    deadline = time.monotonic() + 100
    while driven_by(run.path) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    shown = watched.say("run", str(run.path))
    assert shown.returncode == 0, shown.stderr + watched.log()
    assert "shown: finished" in shown.stdout
    require_undisturbed(watched, run)


@pytest.mark.slow
def test_a_run_that_cannot_start_is_given_up_with_its_number(watched: WatchedHome) -> None:
    run = watched.new_run("hopeless")
    # Damaged after the operator's command, so that only the ServerApp sees it.
    broken = (run.path / "deployment.toml").read_text()
    assert watched.say("run", str(run.path), "--detach").returncode == 0
    (run.path / "deployment.toml").write_text(broken.replace("site_keys", "sitekeys"))
    wanted = watched.wait_for(run.path, lambda w: not w.open, "an end")
    if wanted.state != "finished":  # the ServerApp may have read the file just before
        assert wanted.state == "given_up"
        assert "SMR-E526" in str(wanted.problem)
        assert "SMR-E555" in str(wanted.problem)


def test_a_second_watchdog_is_refused(watched: WatchedHome) -> None:
    second = watched.say("watch", "--once")
    assert second.returncode == 1
    assert "SMR-E527" in second.stderr


@pytest.mark.slow
def test_kill_9_of_serverapp_and_watchdog_needs_no_operator(
    watched: WatchedHome, federation: DeployedFederation
) -> None:
    run = watched.new_run("killed-twice")
    assert watched.say("run", str(run.path), "--detach").returncode == 0
    wait_for_round(run.path, 1)
    kill_server_app(federation)
    assert watched.kill_watchdog() == -signal.SIGKILL
    watched.start_watchdog()
    watched.wait_for(run.path, lambda w: w.state == "finished", "the end")
    require_undisturbed(watched, run)
    kinds = [event["kind"] for event in watched.events(run.path)]
    assert kinds.count("run_started") == 2
    assert kinds.count("run_failed") == 1


@pytest.mark.slow
@pytest.mark.parametrize("away_s", [3.0, 80.0], ids=["short", "long"])
def test_kill_9_of_the_superlink_needs_no_operator(
    watched: WatchedHome, federation: DeployedFederation, away_s: float
) -> None:
    """Away for longer than a minute, Flower gives the run up; the watchdog does not."""
    # The pauses of a real coordinator: whoever only waited for the old driver would wait too long.
    run = watched.new_run(f"superlink-{away_s:.0f}", DriverSettings(poll_interval_s=0.2))
    assert watched.say("run", str(run.path), "--detach").returncode == 0
    wait_for_round(run.path, 1)
    federation.processes["superlink"].kill()
    time.sleep(away_s)
    federation.start_superlink()
    watched.wait_for(run.path, lambda w: w.state == "finished", "the end")
    require_undisturbed(watched, run)


def test_sigterm_ends_the_watchdog_in_order(watched: WatchedHome) -> None:
    assert watched.kill_watchdog(signal.SIGTERM) == 0
    watched.start_watchdog()
