"""A real agent with closed doors and acknowledgements: nothing is lost or trained twice."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from agent_site import Hospital, build_hospital
from small_site import small_atlas, small_plan

from client.agent import trained_round as trained_module
from client.agent.agent import SiteAgent
from client.agent.refusals import outward
from client.agent.service import serve
from client.agent.stub import AgentClient
from client.egress import gate as gate_module
from client.egress.receipts import Receipts
from client.privacy.ledger import Ledger
from client.training.site_model import SiteModel
from server.checkpoints.run_directory import RunDirectory
from server.receipts.book import ReceiptBook
from server.rounds.driver import RoundDriver
from server.rounds.settings import DriverSettings
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from simulations.federation.in_process import InProcessTransport

HOURS = """
[[release_hours]]
days = ["mon"]
start = "08:00"
end = "18:00"
timezone = "UTC"
"""
OPEN = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Clock:
    now = OPEN


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The gate of every agent looks at this clock."""
    clock = Clock()
    original = gate_module.EgressGate.__init__

    def with_clock(self: gate_module.EgressGate, *arguments: object) -> None:
        original(self, *arguments[:2], lambda: clock.now)  # type: ignore[arg-type]

    monkeypatch.setattr(gate_module.EgressGate, "__init__", with_clock)
    return clock


def initial(plan: FederationPlan) -> dict[str, np.ndarray]:
    return SiteModel.build(plan, small_atlas()).shared_arrays()


def with_hours(folder: Path, archive: Path, plan: FederationPlan | None = None) -> Hospital:
    hospital = build_hospital(folder, archive, plan)
    policy = hospital.folder / "policy.toml"
    policy.write_text(policy.read_text() + HOURS)
    return hospital


def test_a_closed_hospital_trains_nothing_and_says_when_it_opens(
    tmp_path: Path, archive: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = with_hours(tmp_path / "site", archive)
    arrays = initial(hospital.plan)
    agent = hospital.agent()
    clock.now = OPEN - timedelta(days=1)
    with monkeypatch.context() as patch:
        patch.setattr(trained_module, "train_round", None)
        with pytest.raises(SmrfedError, match="SMR-E360") as caught:
            agent.handle(hospital.instruction(arrays))
    assert outward(caught.value).endswith("; opens at 2026-11-23T08:00Z")
    assert Ledger(hospital.state.ledger).entries() == ()
    # What holds no data may leave: the end of a run is kept at any hour.
    agent.handle(hospital.instruction(arrays, 1, "finalise", run_id="run-2"))
    clock.now = OPEN
    agent.handle(hospital.instruction(arrays))
    agent.close()


def test_a_round_that_ends_after_hours_is_held_and_leaves_the_same_later(
    tmp_path: Path, archive: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = with_hours(tmp_path / "site", archive)
    instruction = hospital.instruction(initial(hospital.plan))
    agent = hospital.agent()
    train = trained_module.train_round

    def slow(*arguments: object) -> object:
        clock.now = OPEN + timedelta(hours=8)
        return train(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(trained_module, "train_round", slow)
        with pytest.raises(SmrfedError, match="SMR-E360"):
            agent.handle(instruction)
    monkeypatch.setattr(trained_module, "train_round", None)
    for _ in range(2):
        with pytest.raises(SmrfedError, match="SMR-E360"):
            agent.handle(instruction)
    agent.close()
    # The next process knows the held reply as well.
    agent = hospital.agent()
    clock.now = OPEN + timedelta(days=7)
    reply = agent.handle(instruction)
    assert agent.handle(instruction) == reply
    agent.close()
    decisions = [r.decision for r in Receipts(hospital.state.receipts).read()]
    assert [(d.released, d.reply_sha256) for d in decisions] == [
        (False, reply.digest.hex()),
        (True, reply.digest.hex()),
    ]
    assert [e.state for e in Ledger(hospital.state.ledger).entries()] == ["seal"]


def test_a_run_over_a_closed_door_goes_on_and_both_sides_keep_the_same_record(
    tmp_path: Path, archive: Path, clock: Clock
) -> None:
    plan = small_plan("none", training={"rounds": 2})
    sections = plan.model_dump()
    sections["federation"]["sites"] = sections["federation"]["sites"][:1]
    plan = FederationPlan.parse(sections)
    hospital = with_hours(tmp_path / "site", archive, plan)
    agent = hospital.agent()
    clock.now = OPEN - timedelta(hours=6)
    seconds = [0.0]

    def sleep(pause: float) -> None:
        seconds[0] += max(pause, 1.0)
        clock.now += timedelta(seconds=max(pause, 1.0))

    run = RunDirectory.create(tmp_path / "run", plan, initial(plan), "run-1")
    result = RoundDriver(
        plan,
        run,
        InProcessTransport({"a": agent.handle}),
        hospital.coordinator,
        {"a": agent.public_key},
        settings=DriverSettings(round_attempts=1, later_interval_s=600),
        clock=lambda: seconds[0],
        sleep=sleep,
    ).run()
    assert [record.accepted for record in result.history] == [("a",)] * 2
    assert seconds[0] > 2 * 3600
    lines = ReceiptBook(run.path).read()
    sent = [r.decision for r in Receipts(hospital.state.receipts).read() if r.decision.released]
    assert [line.received.reply_sha256 for line in lines] == [d.reply_sha256 for d in sent]
    said = SiteAgentBook(agent).acknowledged()
    # The last one is acknowledged by the statement only: there is no instruction after it.
    assert said == [d.reply_sha256 for d in sent[:-1]]
    agent.close()


class SiteAgentBook:
    """What the agent wrote down of what the coordinator signed for."""

    def __init__(self, agent: SiteAgent) -> None:
        self._agent = agent

    def acknowledged(self) -> list[str]:
        lines = self._agent._acknowledgements.read()
        return [line.acknowledgement.reply_sha256 for line in lines]


def test_the_policy_decides_whose_instructions_are_followed(tmp_path: Path, archive: Path) -> None:
    hospital = build_hospital(tmp_path / "site", archive)
    policy = hospital.folder / "policy.toml"
    policy.write_text(policy.read_text() + "coordinators = []\n")
    with pytest.raises(SmrfedError, match="SMR-E363"):
        hospital.agent()


def test_an_answer_leaves_at_its_pace_whatever_it_is(tmp_path: Path, archive: Path) -> None:
    hospital = build_hospital(tmp_path / "site", archive)
    agent = hospital.agent()
    service = serve(agent, hospital.config.socket, pace_s=0.5)
    try:
        with AgentClient(hospital.config.socket) as client:
            start = time.monotonic()
            with pytest.raises(SmrfedError, match="SMR-E402"):
                client.handle(hospital.instruction(initial(hospital.plan), site="b"))
            # Sleeping is a lower bound that holds on any machine.
            assert time.monotonic() - start >= 0.45
    finally:
        service.stop(0)
        agent.close()
