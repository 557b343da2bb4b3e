from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save
from toy_federation import (
    COORDINATOR_KEY,
    SHAPES,
    Answer,
    Fault,
    ToySite,
    ToyTransport,
    initial_arrays,
    key_of,
    make_plan,
    make_run,
    read,
    site_keys,
)

from server.rounds.driver import RoundDriver, RunResult
from server.rounds.events import Event
from server.rounds.settings import DriverSettings
from server.rounds.transport import Failure, Transport
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import decode_arrays, encode_arrays
from shared_model.protocol.sealed import Sealed, seal

NAMES = ("a", "b", "c")
PATIENT = DriverSettings(poll_interval_s=1.0, retry_interval_s=2.0, absent_grace_s=20.0)


class FakeTime:
    """Seconds that pass only while the driver sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def run(
    path: Path,
    plan: FederationPlan,
    transport: Transport,
    settings: DriverSettings | None = None,
    observer: object = None,
) -> RunResult:
    directory = make_run(path, plan)
    return drive(directory, plan, transport, settings, observer)


def drive(directory, plan, transport, settings=None, observer=None) -> RunResult:
    fake = FakeTime()
    return RoundDriver(
        plan,
        directory,
        transport,
        COORDINATOR_KEY,
        site_keys(plan),
        observer,
        settings=settings or DriverSettings.in_process(),
        clock=fake.clock,
        sleep=fake.sleep,
    ).run()


def spoil_arrays(change) -> Fault:
    """A site that signs a spoilt update."""

    def fault(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
        if read(message).kind == "finalise":
            return reply
        arrays = decode_arrays(reply.body)
        change(arrays)
        return site.sign(message, encode_arrays(arrays))

    return fault


def with_header(**changes: object) -> Fault:
    def fault(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
        if read(message).kind == "finalise":
            return reply
        return site.sign(message, reply.body, **changes)

    return fault


def nan(arrays) -> None:
    arrays["head.weight"][1, 1] = np.nan


def wrong_shape(arrays) -> None:
    arrays["head.bias"] = np.ones((4,), np.float32)


def missing_name(arrays) -> None:
    del arrays["head.bias"]


def extra_name(arrays) -> None:
    arrays["encoder.weight"] = np.ones((1,), np.float32)


def too_large(arrays) -> None:
    arrays["head.bias"][:] = 5000.0


def too_long(arrays) -> None:
    arrays["head.bias"][:] = 900.0


def wrong_dtype(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    if read(message).kind == "finalise":
        return reply
    body = save({n: v.astype(np.float64) for n, v in decode_arrays(reply.body).items()})
    return site.sign(message, body)


def forged(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    return seal(reply.header, reply.body, Ed25519PrivateKey.generate())


def other_site(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    """Another registered site answers in this one's place, with its own name and key."""
    return ToySite("a").sign(message, reply.body)


def garbage_header(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    return seal(b"\xff{[[[", reply.body, site.key)


def garbage_body(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    return site.sign(message, b"\x08" + bytes(range(200)))


def exchanged_body(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    return seal(reply.header, reply.body + b"x", site.key)


def never(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    return None


def fails(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    return Failure("ClientApp stopped responding")


def explodes(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    raise RuntimeError("a defect in the transport")


BAD_REPLIES: list[tuple[str, str, Fault]] = [
    ("NaN", "SMR-E517", spoil_arrays(nan)),
    ("wrong shape", "SMR-E516", spoil_arrays(wrong_shape)),
    ("missing name", "SMR-E515", spoil_arrays(missing_name)),
    ("extra name", "SMR-E515", spoil_arrays(extra_name)),
    ("out of range", "SMR-E510", spoil_arrays(too_large)),
    ("norm", "SMR-E518", spoil_arrays(too_long)),
    ("wrong dtype", "SMR-E115", wrong_dtype),
    ("wrong round", "SMR-E513", with_header(round=77)),
    ("wrong run", "SMR-E513", with_header(run_id="other-run")),
    ("wrong plan", "SMR-E513", with_header(plan_digest="0" * 64)),
    ("wrong instruction", "SMR-E513", with_header(instruction_sha256="0" * 64)),
    ("name of another site", "SMR-E512", with_header(site="a")),
    ("answer of another site", "SMR-E113", other_site),
    ("forged", "SMR-E113", forged),
    ("garbage header", "SMR-E116", garbage_header),
    ("garbage body", "SMR-E115", garbage_body),
    ("exchanged body", "SMR-E117", exchanged_body),
    ("late", "SMR-E503", never),
    ("transport failure", "SMR-E504", fails),
    ("defect", "SMR-E504", explodes),
]


@pytest.mark.parametrize(("name", "code", "fault"), BAD_REPLIES, ids=[b[0] for b in BAD_REPLIES])
def test_a_bad_site_is_set_aside_by_name_and_the_others_complete(
    tmp_path: Path, name: str, code: str, fault: Fault
) -> None:
    plan = make_plan(*NAMES)
    settings = PATIENT.model_copy(update={"norm_bound": 50.0})
    result = run(tmp_path / "run", plan, ToyTransport(*NAMES, faults={"b": fault}), settings)

    assert len(result.history) == 4
    for record in result.history:
        assert record.accepted == ("a", "c")
        assert record.sites["b"].code == code
        assert record.sites["b"].reason
        assert record.weight == plan.weights["a"] + plan.weights["c"]
    # The result is the one of a federation in which b never answers.
    without = run(tmp_path / "two", plan, ToyTransport(*NAMES, faults={"b": never}), PATIENT)
    assert result.body == without.body


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


def test_a_replayed_reply_of_an_earlier_round_is_not_used(tmp_path: Path) -> None:
    first: list[Sealed] = []

    def replay(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
        first.append(reply)
        return first[0] if read(message).kind == "train" else reply

    plan = make_plan(*NAMES)
    result = run(tmp_path / "run", plan, ToyTransport(*NAMES, faults={"b": replay}), PATIENT)
    assert result.history[0].accepted == NAMES
    for record in result.history[1:]:
        assert record.accepted == ("a", "c")
        assert record.sites["b"].code == "SMR-E513"
        assert "round" in record.sites["b"].reason


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


def test_metrics_are_kept_in_mode_none_and_refused_in_mode_local(tmp_path: Path) -> None:
    metrics = with_header(metrics={"loss": 0.25})
    result = run(tmp_path / "none", make_plan(*NAMES), ToyTransport(*NAMES, faults={"b": metrics}))
    assert result.history[0].sites["b"].metrics == {"loss": 0.25}
    local = make_plan(*NAMES, privacy={"mode": "local", "noise_multiplier": 1.0})
    result = run(tmp_path / "local", local, ToyTransport(*NAMES, faults={"b": metrics}))
    assert result.history[0].sites["b"].code == "SMR-E514"
    assert "b" not in result.history[0].accepted


def test_hostile_words_reach_no_terminal_and_no_history(tmp_path: Path) -> None:
    def fault(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
        if read(message).kind == "finalise":
            return Failure("\x1b[2Jbye \ud800")
        header = json.loads(reply.header) | hostile[read(message).round - 1]
        text = json.dumps(header, sort_keys=True, separators=(",", ":"))
        return seal(text.encode(), reply.body, site.key)

    hostile: list[dict[str, object]] = [
        {"metrics": {"loss": float("nan")}},
        {"metrics": {"\ud800\x1b[2J": 1.0}},
        {"\ud800\x1b[2J": 1.0},
        {"metrics": {"x" * 60_000: 1.0}},
    ]
    directory = make_run(tmp_path / "run", make_plan(*NAMES))
    drive(directory, directory.plan, ToyTransport(*NAMES, faults={"b": fault}), PATIENT)
    history = directory.latest().history
    assert [r.sites["b"].code for r in history] == ["SMR-E116", "SMR-E116", "SMR-E116", "SMR-E514"]
    for record in (*history, directory.finalised()):
        reason = record.sites["b"].reason
        assert reason.isprintable()
        assert len(reason) < 600


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
