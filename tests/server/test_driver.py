"""The round driver with sites that are late, absent, slow to connect or down, and its result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from driver_runs import NAMES, PATIENT, FakeTime, drive, run
from toy_federation import (
    COORDINATOR_KEY,
    SHAPES,
    Answer,
    ToySite,
    ToyTransport,
    initial_arrays,
    key_of,
    make_plan,
    make_run,
    read,
    site_keys,
)

from server.rounds.driver import RoundDriver
from server.rounds.events import Event
from server.rounds.transport import Failure, RunOverError
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed


def test_the_result_is_the_weighted_mean_of_the_updates(tmp_path: Path) -> None:
    plan = make_plan(*NAMES, training={"rounds": 2, "server_learning_rate": 0.5})
    result = run(tmp_path / "run", plan, ToyTransport(*NAMES))
    theta = initial_arrays()
    for number in (1, 2):
        updates = {n: ToySite(n).update(theta, number) for n in NAMES}
        total = sum(plan.weights.values())
        theta = {
            name: (
                theta[name]
                + 0.5 * sum(plan.weights[s] * updates[s][name].astype(float) for s in NAMES) / total
            ).astype(np.float32)
            for name in SHAPES
        }
    for name, value in result.arrays.items():
        np.testing.assert_allclose(value, theta[name], rtol=1e-6, atol=1e-8)


def test_neither_reply_order_nor_site_order_changes_a_bit(tmp_path: Path) -> None:
    class Shuffled(ToyTransport):
        """The later a site was asked, the sooner its reply arrives."""

        def __init__(self) -> None:
            super().__init__(*NAMES)
            self.polls: dict[str, int] = {}

        def poll(self, handle: str) -> Answer:
            self.polls[handle] = self.polls.get(handle, 0) + 1
            patience = {"a": 3, "b": 2, "c": 1}[handle.split("/")[0]]
            return super().poll(handle) if self.polls[handle] >= patience else None

    plan = make_plan(*NAMES)
    accepted: list[str] = []

    def observe(event: Event) -> None:
        if event.kind == "site_accepted" and event.round == 1 and event.phase == "train":
            accepted.append(event.site)

    straight = run(tmp_path / "one", plan, ToyTransport(*NAMES), observer=observe)
    shuffled = run(tmp_path / "two", plan, Shuffled(), PATIENT, observer=observe)
    assert accepted == ["a", "b", "c", "c", "b", "a"]
    assert straight.body == shuffled.body

    sites = list(reversed(plan.model_dump()["federation"]["sites"]))
    reordered = make_plan(*NAMES, federation={"sites": sites})
    assert reordered.digest != plan.digest
    assert run(tmp_path / "three", reordered, ToyTransport(*NAMES)).body == straight.body


def test_a_late_reply_is_ignored_and_the_site_takes_part_in_the_next_round(tmp_path: Path) -> None:
    class Late(ToyTransport):
        """b's reply to round 1 arrives while round 2 runs."""

        def poll(self, handle: str) -> Answer:
            site, message = self._waiting[handle]
            if site.name == "b" and b'"round":1' in message.header and now_round[0] == 1:
                return None
            return super().poll(handle)

    now_round = [0]

    def observe(event: Event) -> None:
        now_round[0] = event.round

    plan = make_plan(*NAMES)
    result = run(tmp_path / "run", plan, Late(*NAMES), PATIENT, observe)
    assert result.history[0].set_aside == {"b": "SMR-E503 no answer within 60 s"}
    assert [r.accepted for r in result.history[1:]] == [NAMES] * 3


def test_an_outage_of_all_sites_is_outlived_by_the_next_attempt(tmp_path: Path) -> None:
    fake = FakeTime()
    down_until = fake.now + 400.0

    def outage(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
        return Failure("SuperLink unreachable") if fake.now < down_until else reply

    plan = make_plan(*NAMES, federation={"round_deadline_s": 3600.0}, training={"rounds": 1})
    result = RoundDriver(
        plan,
        make_run(tmp_path / "run", plan),
        ToyTransport(*NAMES, faults=dict.fromkeys(NAMES, outage)),
        COORDINATOR_KEY,
        site_keys(plan),
        clock=fake.clock,
        sleep=fake.sleep,
    ).run()
    assert result.history[0].accepted == NAMES
    assert result.history[0].attempts == 2


def test_a_failed_transport_is_tried_again_with_the_same_bytes(tmp_path: Path) -> None:
    failures = {"left": 3}

    def flaky(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
        if failures["left"]:
            failures["left"] -= 1
            return Failure("connection reset")
        return reply

    plan = make_plan(*NAMES, training={"rounds": 1})
    transport = ToyTransport(*NAMES, faults={"b": flaky})
    result = run(tmp_path / "run", plan, transport, PATIENT)
    record = result.history[0]
    assert record.accepted == NAMES
    assert record.sites["b"].pushes == 4
    pushed = {m for site, m in transport.pushed if site == "b" and read(m).kind == "train"}
    assert len(pushed) == 1
    assert transport.sites["b"].trained == [1]


def test_a_lost_message_is_sent_again_after_silence(tmp_path: Path) -> None:
    class Lossy(ToyTransport):
        """The first message to b dies with its node: no reply, no error, ever."""

        def poll(self, handle: str) -> Answer:
            return None if handle == "b/1" else super().poll(handle)

    plan = make_plan(*NAMES, training={"rounds": 1}, federation={"round_deadline_s": 1000.0})
    result = run(tmp_path / "run", plan, Lossy(*NAMES), PATIENT)
    assert result.history[0].accepted == NAMES
    assert result.history[0].sites["b"].pushes == 2


class Absent(ToyTransport):
    """b is not connected for its first ``missing`` pushes."""

    def __init__(self, missing: int) -> None:
        super().__init__(*NAMES)
        self.missing = missing
        self.tried = 0

    def push(self, site: str, message: Sealed, time_to_live_s: float) -> str:
        if site == "b":
            self.tried += 1
            if self.tried <= self.missing:
                raise SmrfedError("SMR-E501", f"site {site!r} is not connected", remedy="wait")
        return super().push(site, message, time_to_live_s)


def test_a_site_that_connects_within_the_grace_takes_part(tmp_path: Path) -> None:
    plan = make_plan(*NAMES, federation={"round_deadline_s": 3600.0})
    result = run(tmp_path / "run", plan, Absent(5), PATIENT)
    assert [r.accepted for r in result.history] == [NAMES] * 4


def test_a_dead_site_is_waited_for_once_then_only_asked(tmp_path: Path) -> None:
    plan = make_plan(*NAMES, federation={"round_deadline_s": 3600.0})
    result = run(tmp_path / "run", plan, Absent(10**9), PATIENT)
    for record in result.history:
        assert record.set_aside == {"b": "SMR-E501 site 'b' is not connected"}
    # Fake seconds: the grace in the first round, nothing in the others, never the deadline.
    assert [r.seconds for r in result.history] == [PATIENT.absent_grace_s, 0.0, 0.0, 0.0]
    assert result.finalised.accepted == ("a", "c")


def test_a_missed_quorum_stops_the_run_and_resuming_gives_the_same_bits(tmp_path: Path) -> None:
    plan = make_plan(*NAMES, federation={"min_sites": 3})
    whole = run(tmp_path / "whole", plan, ToyTransport(*NAMES))

    def from_round_three(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
        return None if read(message).round == 3 else reply

    transport = ToyTransport(*NAMES, faults={"b": from_round_three})
    directory = make_run(tmp_path / "run", plan)
    with pytest.raises(SmrfedError) as caught:
        drive(directory, plan, transport, PATIENT)
    assert caught.value.code == "SMR-E520"
    assert "b: SMR-E503" in str(caught.value)
    assert directory.latest().round == 2
    stopped = directory.stopped()
    assert stopped.round == 3
    assert stopped.attempts == PATIENT.round_attempts
    assert stopped.accepted == ("a", "c")

    transport.faults.clear()
    resumed = drive(directory, plan, transport)
    assert resumed.body == whole.body
    assert directory.stopped() is None
    # a had answered round 3 before the stop and gave the stored answer again.
    assert transport.sites["a"].trained == [1, 2, 3, 4]


def test_a_second_attempt_asks_only_the_missing_sites(tmp_path: Path) -> None:
    attempts = {"missed": 0}

    def observe(event: Event) -> None:
        attempts["missed"] += event.kind == "quorum_missed"

    def second_time(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
        return reply if attempts["missed"] else None

    plan = make_plan(*NAMES, federation={"min_sites": 3}, training={"rounds": 1})
    transport = ToyTransport(*NAMES, faults={"b": second_time})
    result = run(tmp_path / "run", plan, transport, PATIENT, observe)
    assert result.history[0].attempts == 2
    assert result.history[0].accepted == NAMES
    assert [s for s, m in transport.pushed if read(m).kind == "train"] == ["a", "b", "c", "b"]


def test_all_sites_are_told_the_final_parameters_and_the_missing_ones_again(tmp_path: Path) -> None:
    def not_finalise(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
        return None if read(message).kind == "finalise" else reply

    plan = make_plan(*NAMES)
    transport = ToyTransport(*NAMES, faults={"b": not_finalise})
    directory = make_run(tmp_path / "run", plan)
    result = drive(directory, plan, transport, PATIENT)
    assert result.finalised.accepted == ("a", "c")
    assert transport.sites["a"].finalised == [result.body]

    transport.faults.clear()
    pushes = len(transport.pushed)
    again = drive(directory, plan, transport)
    assert again.finalised.accepted == NAMES
    assert again.body == result.body
    assert [site for site, _ in transport.pushed[pushes:]] == ["b"]
    assert drive(directory, plan, transport).finalised.accepted == NAMES
    assert len(transport.pushed) == pushes + 1


def test_a_site_without_a_key_and_another_plan_are_refused_at_the_start(tmp_path: Path) -> None:
    plan = make_plan(*NAMES)
    directory = make_run(tmp_path / "run", plan)
    keys = {"a": key_of("a").public_key()}
    with pytest.raises(SmrfedError, match="SMR-E502"):
        RoundDriver(plan, directory, ToyTransport(*NAMES), COORDINATOR_KEY, keys)
    other = make_plan(*NAMES, training={"rounds": 9})
    with pytest.raises(SmrfedError, match="SMR-E535"):
        RoundDriver(other, directory, ToyTransport(*NAMES), COORDINATOR_KEY, site_keys(other))


def test_only_the_transport_itself_can_end_a_run(tmp_path: Path) -> None:
    class Gone(ToyTransport):
        def poll(self, handle: str) -> Answer:
            if b'"round":3' in self._waiting[handle][1].header:
                raise RunOverError("SMR-E536", "given up", remedy="start again")
            return super().poll(handle)

    plan = make_plan(*NAMES)
    directory = make_run(tmp_path / "run", plan)
    with pytest.raises(RunOverError):
        drive(directory, plan, Gone(*NAMES), PATIENT)
    assert directory.latest().round == 2
    whole = run(tmp_path / "whole", plan, ToyTransport(*NAMES))
    assert drive(directory, plan, ToyTransport(*NAMES)).body == whole.body
