"""Before a round: a full disk asks nobody, and a clock that was set changes nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from driver_runs import NAMES, PATIENT, FakeTime, drive, run
from toy_federation import COORDINATOR_KEY, ToyTransport, make_plan, make_run, site_keys

from server.rounds import host
from server.rounds.driver import RoundDriver
from server.rounds.events import Event
from shared_model.errors import SmrfedError


def test_a_full_disk_stops_the_run_before_anybody_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(*NAMES)
    whole = run(tmp_path / "whole", plan, ToyTransport(*NAMES))
    directory = make_run(tmp_path / "run", plan)
    transport = ToyTransport(*NAMES)
    free = {"bytes": 10**9}

    def fills_up(event: Event) -> None:
        if event.kind == "round_saved" and event.round == 2:
            free["bytes"] = 30 << 20

    monkeypatch.setattr(host.shutil, "disk_usage", lambda _: SimpleNamespace(free=free["bytes"]))
    with pytest.raises(SmrfedError, match="SMR-E523"):
        drive(directory, plan, transport, PATIENT, fills_up)
    assert [site.trained for site in transport.sites.values()] == [[1, 2]] * 3
    free["bytes"] = 10**9
    assert drive(directory, plan, transport).body == whole.body
    assert [site.trained for site in transport.sites.values()] == [[1, 2, 3, 4]] * 3


@pytest.mark.parametrize("jump", [-86400.0, 7200.0])
def test_a_clock_that_is_set_is_told_and_moves_no_deadline(tmp_path: Path, jump: float) -> None:
    plan = make_plan(*NAMES)
    undisturbed = run(tmp_path / "plain", plan, ToyTransport(*NAMES), PATIENT)
    fake, events = FakeTime(), []
    moved = {"by": 0.0}

    def observe(event: Event) -> None:
        events.append(event)
        if event.kind == "site_accepted" and event.round == 2:
            moved["by"] = jump

    result = RoundDriver(
        plan,
        make_run(tmp_path / "run", plan),
        ToyTransport(*NAMES),
        COORDINATOR_KEY,
        site_keys(plan),
        observe,
        settings=PATIENT,
        clock=fake.clock,
        sleep=fake.sleep,
        wall_clock=lambda: 1.8e9 + fake.now + moved["by"],
    ).run()
    assert result.body == undisturbed.body
    assert [r.seconds for r in result.history] == [r.seconds for r in undisturbed.history]
    (told,) = [event for event in events if event.kind == "clock_jumped"]
    assert told.round == 3
    assert f"{abs(jump):.0f} s {'forward' if jump > 0 else 'back'}" in str(told.reason)
