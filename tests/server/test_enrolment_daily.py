"""What a hospital does by itself: ask daily what is new, and wait for a plan to be accepted."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from enrolment_federation import federation
from toy_federation import make_plan

from client.agent.acceptance import AcceptedPlans
from client.agent.state import StateFolder
from client.commands.serving import wait_for_plan
from client.config import SiteConfig
from client.enrolment.daily import renew_daily
from client.enrolment.pinned import PinnedCoordinator
from client.supervisor.commands import agent_command, renewal_command
from server.enrolment.coordinator_key import announce, carry_out
from shared_model.protocol.keys import fingerprint


class Days:
    """Stands for the time that passes: something happens in each pause, then the process ends."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self._steps = list(steps)
        self.pauses: list[float] = []

    def wait(self, timeout_s: float | None = None) -> bool:
        assert timeout_s is not None
        self.pauses.append(timeout_s)
        if not self._steps:
            return True
        self._steps.pop(0)()
        return False


def test_a_hospital_hears_of_a_key_change_without_anybody_saying_renew(tmp_path: Path) -> None:
    with federation(tmp_path) as running:
        hospital = running.hospital()
        running.join(hospital, running.token())
        said: list[str] = []
        days = Days(
            lambda: announce(running.folder),
            lambda: None,
            lambda: carry_out(running.folder, running.registry, without=()),
            lambda: None,
        )
        renew_daily(hospital, days, said.append)  # type: ignore[arg-type]
        key = running.folder.signing_key.with_name("coordinator.pem.pub")
        assert hospital.coordinator_key.read_bytes() == key.read_bytes()
        assert len(said) == 2
        assert "next key is accepted" in said[0]
        assert f"another key now: {fingerprint_of(hospital)}" in said[1]
        assert all(86400 <= pause <= 90000 for pause in days.pauses)


def test_a_coordinator_that_is_away_is_told_once_and_asked_again_within_the_hour(
    tmp_path: Path,
) -> None:
    with federation(tmp_path) as running:
        hospital = running.hospital()
        running.join(hospital, running.token())
    said: list[str] = []
    days = Days(lambda: None, lambda: None)
    renew_daily(hospital, days, said.append)  # type: ignore[arg-type]
    assert [line[20:29] for line in said] == ["SMR-E465 "]
    assert all(3600 <= pause <= 5400 for pause in days.pauses)


def test_what_a_person_allowed_while_the_coordinator_was_asked_stays_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from client.enrolment.renewing import allow_courier, renew

    with federation(tmp_path) as running:
        hospital = running.hospital()
        running.join(hospital, running.token())
        announce(running.folder)
        carry_out(running.folder, running.registry, without=("north",))
        asked = PinnedCoordinator.ask

        def ask(self: PinnedCoordinator, action: str, *rest: object) -> object:
            answer: object = asked(self, action, *rest)  # type: ignore[arg-type]
            allow_courier(hospital, "ef" * 32)
            return answer

        monkeypatch.setattr(PinnedCoordinator, "ask", ask)
        assert renew(hospital).changed_coordinator
        assert "ef" * 32 in hospital.connection.load().courier_sha256


def test_the_agent_of_a_hospital_without_a_plan_waits_for_one(tmp_path: Path) -> None:
    with federation(tmp_path) as running:
        hospital = running.hospital()
    plans = AcceptedPlans(StateFolder(hospital.state_dir).plans)
    assert not wait_for_plan(hospital, Days())  # type: ignore[arg-type]
    days = Days(lambda: None, lambda: plans.accept(make_plan("north", "b"), None))
    assert wait_for_plan(hospital, days)  # type: ignore[arg-type]
    assert len(days.pauses) == 2
    assert wait_for_plan(hospital, Days())  # type: ignore[arg-type]


@pytest.mark.parametrize("command", [agent_command, renewal_command])
def test_what_up_starts_without_a_plan_or_a_coordinator_stays_and_ends_when_told(
    tmp_path: Path, command: Callable[[Path], tuple[str, ...]]
) -> None:
    with federation(tmp_path) as running:
        hospital = running.hospital()
        running.join(hospital, running.token())
    line = command(tmp_path / "north" / "site.toml")
    process = subprocess.Popen(
        [sys.executable, *line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        assert "no plan is accepted yet" in told or "SMR-E465" in told
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert hospital.name == "north"


def fingerprint_of(hospital: SiteConfig) -> str:
    from shared_model.protocol.keys import load_public_key

    return fingerprint(load_public_key(hospital.coordinator_key))
