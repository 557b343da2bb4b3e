"""Evaluations and the calibration in a run: when, of what model, and never a bit differently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from driver_runs import StopError, drive_on, outcomes, stop_after
from looking_federation import (
    BIAS,
    NAMES,
    SITES,
    LookingTransport,
    killed_at_every_write,
    looking_plan,
    start,
)
from toy_federation import Answer, Fault, ToySite, read

from server.evaluation.records import ReleaseStore
from server.evaluation.summary import summarise
from server.rounds.driver import RunResult
from server.rounds.events import Event
from server.rounds.releases import released_body
from server.rounds.transport import Failure
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import body_digest, decode_arrays, encode_arrays
from shared_model.protocol.sealed import Sealed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, LookingTransport, Path]:
    plan = looking_plan()
    transport = LookingTransport(plan)
    path = tmp_path_factory.mktemp("whole") / "run"
    return drive_on(start(path, plan), transport), transport, path


def facts(result: RunResult) -> list[object]:
    """Everything of a result that must not depend on interruptions (times may)."""
    return [
        result.body,
        outcomes(result.history),
        [(r.body_sha256, r.after_round, r.arrays, r.offsets) for r in result.releases],
        result.finalised.accepted,
    ]


def test_sites_are_asked_every_second_round_and_at_the_end(whole) -> None:
    result, transport, _ = whole
    expected = [
        ("train", 1), ("train", 2), ("evaluate", 2), ("train", 3), ("train", 4), ("evaluate", 4),
        ("train", 5), ("calibrate", 5), ("evaluate", 5), ("finalise", 5),
    ]  # fmt: skip
    for site in transport.sites.values():
        assert site.asked == expected
    kinds = [(r.asked.kind, r.asked.round, r.after_round) for r in result.releases]
    assert kinds == [
        ("evaluate", 2, 2),
        ("evaluate", 4, 4),
        ("calibrate", 5, 5),
        ("evaluate", 5, 5),
    ]
    assert all(record.asked.accepted == NAMES for record in result.releases)


def test_each_look_is_at_the_model_that_is_released_then(whole) -> None:
    result, transport, path = whole
    sent = {(read(m).kind, read(m).round): m.body for site, m in transport.pushed if site == "a"}
    assert sent["evaluate", 2] == sent["train", 3]
    assert sent["calibrate", 5] != sent["evaluate", 5] == sent["finalise", 5] == result.body
    for record in result.releases:
        body = sent[record.asked.kind, record.asked.round]
        assert record.body_sha256 == body_digest(body)
    assert {site.finalised[0] for site in transport.sites.values()} == {result.body}
    before, after = decode_arrays(sent["calibrate", 5]), decode_arrays(result.body)
    (offsets,) = [r.offsets for r in result.releases if r.offsets is not None]
    # The sites' models lean to the first class: the released one is held back there.
    assert offsets[0] < -0.3
    np.testing.assert_allclose(after[BIAS] - before[BIAS], offsets, atol=1e-6)
    assert all((before[n] == after[n]).all() for n in before if n != BIAS)
    run = start(path, looking_plan())
    assert released_body(run) == result.body != run.latest().release_body


def test_the_summary_of_an_evaluation_is_per_site_and_together(whole) -> None:
    result, _, _ = whole
    summary = summarise(result.releases[-1], looking_plan())
    assert set(summary.sites) == set(NAMES)
    assert summary.together is not None
    together = summary.together.balanced_accuracy
    assert together.value is not None
    for figures in summary.sites.values():
        own = figures.balanced_accuracy
        assert own.high - own.low > together.high - together.low
    worst = summary.worst_balanced_accuracy
    assert worst is not None
    assert worst.value == min(f.balanced_accuracy.value for f in summary.sites.values())
    assert worst.low <= worst.value <= worst.high


def test_a_run_that_is_interrupted_at_any_event_goes_on_to_the_same_bits(
    whole, tmp_path: Path
) -> None:
    plan = looking_plan()
    events: list[Event] = []
    drive_on(start(tmp_path / "counted", plan), LookingTransport(plan), events.append)
    assert [e.round for e in events if e.kind == "release_saved"] == [2, 4, 5, 5]
    # Once at each thing that can happen; the writes in between have a test of their own.
    first = {(event.kind, event.phase): n for n, event in reversed(list(enumerate(events)))}
    for number in first.values():
        path, transport = tmp_path / str(number), LookingTransport(plan)
        with pytest.raises(StopError):
            drive_on(start(path, plan), transport, stop_after(number))
        assert facts(drive_on(start(path, plan), transport)) == facts(whole[0]), events[number]


def test_a_run_that_is_killed_at_any_write_goes_on_to_the_same_bits(whole, tmp_path: Path) -> None:
    """SIGKILL before each fsync of the whole run, one process after another."""
    plan, path = looking_plan(), tmp_path / "run"
    start(path, plan)
    assert killed_at_every_write(path, lambda: LookingTransport(plan)) > 10
    result = drive_on(start(path, plan), LookingTransport(plan))
    assert facts(result) == facts(whole[0])


def test_rounds_end_early_when_released_figures_no_longer_improve(tmp_path: Path) -> None:
    plan = looking_plan(rounds=20, every=1, patience=3)
    transport = LookingTransport(plan, plateau=2)
    result = drive_on(start(tmp_path / "run", plan), transport)
    rounds = len(result.history)
    assert 4 <= rounds < 20
    asked = transport.sites["a"].asked
    # The end carries the number of the plan's last round, whenever it comes.
    assert asked[-4:] == [
        ("evaluate", rounds), ("calibrate", 20), ("evaluate", 20), ("finalise", 20),
    ]  # fmt: skip
    assert result.finalised.round == 20
    again = drive_on(start(tmp_path / "again", plan), LookingTransport(plan, plateau=2))
    assert facts(again) == facts(result)
    # Resumed after its end, it asks nobody anything.
    silent = LookingTransport(plan)
    assert facts(drive_on(start(tmp_path / "run", plan), silent)) == facts(result)
    assert silent.pushed == []


def test_rounds_that_improve_go_on(tmp_path: Path) -> None:
    plan = looking_plan(rounds=6, every=1, patience=4, calibration={})
    result = drive_on(start(tmp_path / "run", plan), LookingTransport(plan))
    assert len(result.history) == 6
    # Nothing is corrected, so the last evaluation is of the last round's model.
    assert result.body == start(tmp_path / "run", plan).latest().body


def test_early_stopping_without_a_rule_does_not_evaluate_the_same_model_twice(
    tmp_path: Path,
) -> None:
    plan = looking_plan(rounds=20, every=1, patience=3, calibration={})
    transport = LookingTransport(plan, plateau=1)
    result = drive_on(start(tmp_path / "run", plan), transport)
    assert len(result.history) < 20
    assert transport.sites["a"].asked[-1] == ("finalise", 20)
    assert transport.sites["a"].asked[-2] == ("evaluate", len(result.history))


def on(kind: str, change: Fault) -> Fault:
    def fault(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
        return change(site, message, reply) if read(message).kind == kind else reply

    return fault


def refuses(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    return Failure("SMR-E364 the site's agent declined")


def absurd(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    arrays = decode_arrays(reply.body)
    next(iter(arrays.values()))[:] = 1e9
    return site.sign(message, encode_arrays(arrays))


def an_update(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    return site.sign(message, site.update(decode_arrays(message.body), 1))


def metrics_too(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    return site.sign(message, reply.body, metrics={"accuracy": 0.99})


@pytest.mark.parametrize("kind", ["evaluate", "calibrate"])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (refuses, "SMR-E504"),
        (absurd, "SMR-E571"),
        (an_update, "SMR-E515"),
        (metrics_too, "SMR-E514"),
    ],
)
def test_a_site_that_does_not_answer_is_missing_and_the_run_goes_on(
    tmp_path: Path, kind: str, change: Fault, code: str
) -> None:
    plan = looking_plan(rounds=3, federation={"min_sites": 3, "sites": SITES})
    result = drive_on(
        start(tmp_path / "run", plan), LookingTransport(plan, {"b": on(kind, change)})
    )
    assert len(result.history) == 3
    for record in result.releases:
        expected = ("a", "c") if record.asked.kind == kind else NAMES
        assert record.asked.accepted == expected
        assert set(record.arrays) == set(expected)
        if record.asked.kind == kind:
            assert record.asked.sites["b"].code == code


def test_when_nobody_answers_nothing_is_corrected(tmp_path: Path) -> None:
    plan = looking_plan(rounds=2, every=1, patience=1)

    def silent(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
        return refuses(site, message, reply) if read(message).kind in LOOKS else reply

    faults = dict.fromkeys(NAMES, silent)
    result = drive_on(start(tmp_path / "run", plan), LookingTransport(plan, faults))
    assert len(result.history) == 2
    assert [r.offsets for r in result.releases if r.asked.kind == "calibrate"] == [(0.0, 0.0, 0.0)]
    assert summarise(result.releases[0], plan).together is None
    assert result.body == start(tmp_path / "run", plan).latest().body


LOOKS = ("evaluate", "calibrate")


def test_a_damaged_release_ends_the_run_with_a_number(tmp_path: Path) -> None:
    plan = looking_plan()
    path = tmp_path / "run"
    drive_on(start(path, plan), LookingTransport(plan))
    stored = path / "releases" / "0000005-calibrate.json"
    stored.write_bytes(stored.read_bytes().replace(b"0.", b"1.", 1))
    with pytest.raises(SmrfedError, match="SMR-E572"):
        drive_on(start(path, plan), LookingTransport(plan))
    with pytest.raises(SmrfedError, match="SMR-E572"):
        ReleaseStore(path).all()


def test_a_rule_that_cannot_be_applied_is_refused_before_the_first_round(tmp_path: Path) -> None:
    plan = looking_plan(model={"name": "unheard-of"})
    transport = LookingTransport(plan)
    with pytest.raises(SmrfedError, match="SMR-E570"):
        drive_on(start(tmp_path / "run", plan), transport)
    assert transport.pushed == []


def test_the_same_works_without_noise_in_mode_none(tmp_path: Path) -> None:
    plan = looking_plan(
        privacy={"mode": "none"},
        evaluation={"release_every": 2},
        calibration={"rule": "prior_free"},
    )
    result = drive_on(start(tmp_path / "run", plan), LookingTransport(plan))
    summary = summarise(result.releases[-1], plan)
    assert summary.together is not None
    assert summary.together.patients.value == pytest.approx(270, abs=1e-2)
