"""The first day of a federation, with the commands of docs/first_day.md and the real agents."""

from __future__ import annotations

import json
import stat
import tempfile
from pathlib import Path

import pytest
from first_day import FirstDay
from nginx_front import NGINX

from simulations.deployed.processes import free_ports

pytestmark = [pytest.mark.deploy, pytest.mark.slow, pytest.mark.timeout(3600)]

ROUNDS = 6


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_a_federation_from_empty_folders_to_its_end() -> None:
    # Not pytest's own folder: the path of a unix socket may have 103 bytes at most.
    with tempfile.TemporaryDirectory(prefix="smrfed-") as folder:
        day = FirstDay(Path(folder))
        try:
            ports = free_ports(3)
            day.make_coordinator(*ports)
            with day.front(*ports):
                live_through(day, public=ports[2])
        finally:
            day.close()
        assert day.mine() == []
        assert not [path for path in day.folder.rglob("*") if path.is_socket()]
        for private in (day.home, *(day.folder / name for name in ("east", "west", "south"))):
            assert stat.S_IMODE(private.stat().st_mode) == 0o700


def live_through(day: FirstDay, public: int) -> None:
    day.start("coordinator", "smrfed-coordinator", "up", "--home", day.home)
    day.until(lambda: "metrics" in (day.folder / "coordinator.log").read_text(), "up")
    day.coordinator("check", "--public", f"127.0.0.1:{public}")
    day.coordinator("up", fails="SMR-E552")

    plan = day.new_plan("plan", ("east", "west"), ROUNDS, seed=7)
    day.say("smrfed-coordinator", "plan", "show", plan)
    day.coordinator("create", plan, "study-1")

    for number, name in enumerate(("east", "west", "south")):
        day.make_site(name, number)
    day.site("east", "up", fails="SMR-E460")
    withdrawn, token = day.token("east"), day.token("east")
    day.site("east", "join", withdrawn, "--yes", fails="SMR-E464")
    day.site("west", "join", token, "--yes", fails="SMR-E462")
    day.site("east", "join", token, "--yes")
    day.site("east", "join", token, "--yes")  # cut off, and said again
    day.site("west", "join", day.token("west"), "--yes")

    # Up before anything is accepted: the agents wait for a plan.
    for name in ("east", "west"):
        day.start(name, "smrfed-site", "up", cwd=day.folder / name)
    for name in ("east", "west"):
        day.site(name, "policy", "check", plan)
        day.site(name, "accept", plan, "--yes")
        day.until((day.folder / name / "run/agent.sock").is_socket, f"the agent of {name}")
    day.site("east", "up", fails="SMR-E479")
    day.site("south", "accept", plan, "--yes", fails="SMR-E104")

    day.start("run", "smrfed-coordinator", "run", "study-1", "--home", day.home)
    day.until(lambda: day.status("study-1")["rounds_completed"] >= 1, "round 1")
    day.kill(day.folder / "east" / "state", "agent")
    day.kill(day.folder / "west" / "state", "node")
    day.kill_serverapp("study-1")
    day.kill(day.home, "superlink")

    token = day.token("south", "--run", "study-1", "--patients", 6)
    day.site("south", "join", token, "--yes")
    day.start("south", "smrfed-site", "up", cwd=day.folder / "south")

    assert day.ended("run") == 0, day.logs()
    status = day.status("study-1")
    assert status["rounds_completed"] == ROUNDS
    counted = {site for r in status["history"] for site, o in r["sites"].items() if o["accepted"]}
    assert counted == {"east", "west", "south"}
    spent = json.loads(day.site("east", "status", "--json"))
    assert 0 < spent["epsilon"] < spent["max_epsilon"]

    look_at_the_result(day)
    begin_a_second_study(day)
    change_keys_and_leave(day)
    for name in ("east", "west", "south", "coordinator"):
        assert day.stop(name) == 0, day.logs()


def look_at_the_result(day: FirstDay) -> None:
    run = day.home / "runs" / "study-1"
    assert "east" in day.say("smrfed-coordinator", "evaluation", run)
    day.say("smrfed-coordinator", "report", run)
    day.say("smrfed-coordinator", "export", run, day.folder / "model.safetensors")
    statement = day.folder / "statement.json"
    day.say("smrfed-coordinator", "receipts", run, "--site", "east", "--export", statement)
    day.site("east", "receipts", "reconcile", statement)


def begin_a_second_study(day: FirstDay) -> None:
    """Accepted while everything runs: the agent goes over to the plan when it is asked."""
    plan = day.new_plan("second", ("east",), 1, seed=7)
    (day.folder / "east" / "policy.toml").write_text(
        (day.folder / "east" / "policy.toml").read_text().replace("= 10.0", "= 20.0")
    )
    assert "by itself" in " ".join(day.site("east", "accept", plan, "--yes").split())
    day.coordinator("create", plan, "study-2")
    day.coordinator("run", "study-2")
    assert day.status("study-2")["rounds_completed"] == 1


def change_keys_and_leave(day: FirstDay) -> None:
    day.coordinator("rotate")
    for name in ("east", "west", "south"):
        day.site(name, "renew")
    day.coordinator("rotate", "--finish")
    day.site("east", "renew")
    day.coordinator("revoke", "south")
    assert "revoked" in day.coordinator("sites")
