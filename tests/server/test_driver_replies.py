"""Replies that are spoilt, forged, replayed or hostile: the site is set aside, the run goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from driver_runs import NAMES, PATIENT, drive, run
from safetensors.numpy import save
from toy_federation import (
    Answer,
    Fault,
    ToySite,
    ToyTransport,
    make_plan,
    make_run,
    read,
)

from server.rounds.transport import Failure
from shared_model.protocol.arrays import decode_arrays, encode_arrays
from shared_model.protocol.sealed import Sealed, seal


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
    plan = make_plan(*NAMES, aggregation={"norm_bound": 50.0})
    result = run(tmp_path / "run", plan, ToyTransport(*NAMES, faults={"b": fault}), PATIENT)

    assert len(result.history) == 4
    for record in result.history:
        assert record.accepted == ("a", "c")
        assert record.sites["b"].code == code
        assert record.sites["b"].reason
        assert record.weight == plan.weights["a"] + plan.weights["c"]
    # The result is the one of a federation in which b never answers.
    without = run(tmp_path / "two", plan, ToyTransport(*NAMES, faults={"b": never}), PATIENT)
    assert result.body == without.body


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


def test_metrics_are_kept_in_mode_none_and_refused_in_mode_local(tmp_path: Path) -> None:
    metrics = with_header(metrics={"loss": 0.25})
    result = run(tmp_path / "none", make_plan(*NAMES), ToyTransport(*NAMES, faults={"b": metrics}))
    assert result.history[0].sites["b"].metrics == {"loss": 0.25}
    privacy = {"mode": "local", "noise_multiplier": 1.0, "clipping_norm": 100.0}
    local = make_plan(*NAMES, privacy=privacy)
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


def test_a_site_that_sends_a_thousand_times_the_norm_changes_nothing_by_default(
    tmp_path: Path,
) -> None:
    """Mode local: the plan's clipping and noise bound an honest update, without any setting."""
    privacy = {"mode": "local", "noise_multiplier": 1.0, "clipping_norm": 0.5}
    plan = make_plan(*NAMES, privacy=privacy)
    assert plan.aggregation.norm_bound is None

    def honest(arrays) -> None:
        """As noise of this plan makes it: sqrt(64) numbers of sigma C / n at 10 patients."""
        rng = np.random.default_rng(1)
        for value in arrays.values():
            value[:] = rng.normal(size=value.shape) * 0.5 / 10 * plan.training.learning_rate

    def thousandfold(arrays) -> None:
        honest(arrays)
        for value in arrays.values():
            value *= 1000

    def some(fault: Fault) -> ToyTransport:
        others = dict.fromkeys(("a", "c"), spoil_arrays(honest))
        return ToyTransport(*NAMES, faults=others | {"b": fault})

    loud = run(tmp_path / "loud", plan, some(spoil_arrays(thousandfold)), PATIENT)
    assert {r.sites["b"].code for r in loud.history} == {"SMR-E522"}
    without = run(tmp_path / "without", plan, some(never), PATIENT)
    assert loud.body == without.body
    with_b = run(tmp_path / "with", plan, some(spoil_arrays(honest)), PATIENT)
    assert [r.accepted for r in with_b.history] == [NAMES] * 4


def test_a_site_that_answers_twice_counts_once(tmp_path: Path) -> None:
    """Asked again after silence, it gives the same bytes to both messages at the same moment."""

    class Twice(ToyTransport):
        looks = 0

        def poll(self, handle: str) -> Answer:
            self.looks += handle.startswith("b")
            return None if handle.startswith("b") and self.looks < 8 else super().poll(handle)

    plan = make_plan(*NAMES, training={"rounds": 1})
    impatient = PATIENT.model_copy(update={"silence_s": 2.0})
    once = run(tmp_path / "once", plan, ToyTransport(*NAMES))
    twice = run(tmp_path / "twice", plan, Twice(*NAMES), impatient)
    assert twice.history[0].sites["b"].pushes > 1
    assert twice.history[0].weight == sum(plan.weights.values())
    assert once.body == twice.body
