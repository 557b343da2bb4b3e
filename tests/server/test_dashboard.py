"""The dashboard's facts and pages, from runs that the real driver made."""

from __future__ import annotations

import json
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from driver_runs import StopError
from toy_federation import (
    COORDINATOR_KEY,
    ToySite,
    ToyTransport,
    initial_arrays,
    make_plan,
    make_run,
    site_keys,
)
from typer.testing import CliRunner

from server.checkpoints.run_directory import RunDirectory
from server.checkpoints.state import RunState
from server.cli import app as command_line
from server.config import CoordinatorFolder
from server.dashboard.app import Dashboard
from server.dashboard.progress import progress_of
from server.dashboard.run_files import is_driven, read_run
from server.flower.event_log import EventLog
from server.rounds.driver import RoundDriver
from server.rounds.records import RoundRecord, SiteOutcome
from server.rounds.settings import DriverSettings
from server.rounds.transport import Failure
from server.watchdog.wanted import Wanted, held
from shared_model.errors import SmrfedError
from shared_model.local_page.answers import Question
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import plan_epsilon
from shared_model.protocol.arrays import encode_arrays

LOCAL = {
    "privacy": {"mode": "local", "noise_multiplier": 3.0},
    # The toy sites' updates are not clipped: with weight decay nothing public bounds them.
    "training": {"rounds": 4, "weight_decay": 0.01},
}
T0 = datetime(2026, 1, 1, tzinfo=UTC)


def dashboard(home: Path) -> Dashboard:
    return Dashboard(CoordinatorFolder(home), ask_connected=lambda: frozenset({"a"}))


def page(board: Dashboard, path: str, **parameters: str) -> str:
    answer = board(Question(path, parameters))
    assert answer is not None, path
    assert answer.status == 200
    return answer.body.decode()


def facts(board: Dashboard, path: str, **parameters: str) -> Any:
    return json.loads(page(board, path, **parameters))


def drive(directory: RunDirectory, transport: ToyTransport, observer: Any = None) -> None:
    RoundDriver(
        directory.plan,
        directory,
        transport,
        COORDINATOR_KEY,
        site_keys(directory.plan),
        observer or EventLog(directory.path),
        settings=DriverSettings.in_process(),
    ).run()


def a_run(home: Path, name: str = "study", plan: FederationPlan | None = None) -> RunDirectory:
    directory = make_run(home / "runs" / name, plan or make_plan("a", "b", **LOCAL))
    drive(directory, ToyTransport("a", "b"))
    return directory


def recorded(path: Path, plan: FederationPlan, rounds: int, **outcome: Any) -> RunDirectory:
    """A run whose history was written by hand, a minute a round."""
    directory = make_run(path, plan)
    history = tuple(
        RoundRecord(
            round=number,
            kind="train",
            sites={
                site: SiteOutcome(**{"accepted": True, "pushes": 1, **outcome})
                for site in plan.weights
            },
            attempts=1,
            weight=1,
            started_at=(T0 + timedelta(minutes=number)).isoformat(),
            seconds=50.0,
        )
        for number in range(1, rounds + 1)
    )
    directory.save(RunState(rounds, encode_arrays(initial_arrays()), history))
    return directory


def test_the_facts_are_those_of_the_status_command(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    told = json.loads(CliRunner().invoke(command_line, ["status", str(run.path), "--json"]).stdout)
    found = facts(dashboard(tmp_path), "/api/runs/study")
    assert {name: found[name] for name in told} == told
    assert found["state"] == "finished"
    assert [site["accepted"] for site in found["sites"]] == [4, 4]
    assert found["receipts"]["problem"] is None
    assert found["receipts"]["without_receipt"] == []
    assert found["receipts"]["replies"] == 4 * 2 + 2
    assert all(site["bytes"] > 0 and site["last_seen"] for site in found["sites"])


def test_epsilon_is_the_plans_and_grows_with_what_was_asked(tmp_path: Path) -> None:
    plan = make_plan("a", "b", **LOCAL)
    run = a_run(tmp_path, plan=plan)
    half = make_run(tmp_path / "runs" / "half", plan)

    def stop(event: Any) -> None:
        if (event.kind, event.round) == ("round_saved", 2):
            raise StopError

    with pytest.raises(StopError):
        drive(half, ToyTransport("a", "b"), stop)
    board = dashboard(tmp_path)
    facts(board, "/api/runs")
    facts(board, "/api/runs/half")
    assert board.later.settle(120)
    whole = facts(board, "/api/runs/study")["privacy"]
    assert whole["epsilon_spent"] == pytest.approx(plan_epsilon(plan))
    assert whole["epsilon_planned"] == pytest.approx(plan_epsilon(plan))
    begun = facts(board, "/api/runs/half")["privacy"]
    assert 0 < begun["epsilon_spent"] < begun["epsilon_planned"]
    listed = {one["name"]: one["privacy"] for one in facts(board, "/api/runs")["runs"]}
    assert listed["half"]["epsilon_spent"] == begun["epsilon_spent"]
    assert listed["study"]["epsilon_spent"] == whole["epsilon_spent"]
    assert run.plan.digest == plan.digest


@pytest.mark.parametrize(("mode", "shown"), [("none", True), ("local", False)])
def test_metrics_are_shown_in_mode_none_only_whatever_the_file_holds(
    tmp_path: Path, mode: str, shown: bool
) -> None:
    """In mode local no reply with metrics is accepted; a file that holds some shows none."""
    plan = make_plan("a", "b", **(LOCAL if mode == "local" else {}))
    recorded(tmp_path / "runs" / "study", plan, 3, metrics={"loss": 0.123456})
    board = dashboard(tmp_path)
    for path in ("/", "/runs/study", "/sites", "/api/runs", "/api/runs/study", "/api/sites"):
        text = page(board, path)
        if path in ("/runs/study", "/api/runs/study"):
            assert ("0.1235" in text or "0.123456" in text) == shown, path
        else:
            assert "0.123" not in text, path


def test_a_missing_site_is_named_with_number_sentence_and_page(tmp_path: Path) -> None:
    def silent(site: ToySite, message: Any, reply: Any) -> Failure:
        return Failure("the door is closed <b>")

    run = make_run(tmp_path / "runs" / "study", make_plan("a", "b", federation={"min_sites": 1}))
    drive(run, ToyTransport("a", "b", faults={"b": silent}))
    board = dashboard(tmp_path)
    text = page(board, "/runs/study")
    assert '<a href="/errors/SMR-E504">SMR-E504</a> the door is closed &lt;b&gt;' in text
    assert "<b>" not in text.replace("<b>", "", 0) or "closed <b>" not in text
    assert "b counted in 0 of 4 rounds" in text
    assert "Error SMR-E504" in page(board, "/errors/SMR-E504")
    (b,) = [site for site in facts(board, "/api/runs/study")["sites"] if site["site"] == "b"]
    assert b["missing"][0] == "SMR-E504"
    assert b["taken"] == [False] * 4


def test_each_state_is_told(tmp_path: Path) -> None:
    plan = make_plan("a", "b", federation={"min_sites": 2})
    waiting = make_run(tmp_path / "runs" / "new", plan)
    assert _state(waiting) == "waiting to start"
    log = EventLog(waiting.path)
    seen: list[str] = []

    def observe(event: Any) -> None:
        log(event)
        if event.kind in ("site_accepted", "quorum_missed"):
            seen.append(_state(waiting))

    def gone(site: ToySite, message: Any, reply: Any) -> Any:
        return Failure("gone") if b'"round":3' in message.header else reply

    with pytest.raises(SmrfedError, match="SMR-E520"):
        drive(waiting, ToyTransport("a", "b", faults={"b": gone}), observe)
    assert seen[:5] == ["running"] * 5
    assert seen[-1] == "waiting for quorum"
    assert _state(waiting) == "stopped"
    drive(waiting, ToyTransport("a", "b"))
    assert _state(waiting) == "finished"
    recorded(tmp_path / "runs" / "cut", plan, 2)
    assert _state(RunDirectory.open(tmp_path / "runs" / "cut")) == "interrupted"


def test_what_the_watchdog_made_of_a_run_is_told(tmp_path: Path) -> None:
    run = recorded(tmp_path / "runs" / "cut", make_plan("a"), 2)
    told = {}
    for state in ("waiting", "given_up", "stopped"):
        with held(run.path) as file:
            file.write(Wanted(state=state, problem="SMR-E523 no room", wanted=state != "stopped"))
        (found,) = facts(dashboard(tmp_path), "/api/runs")["runs"]
        told[state] = found["state"]
        assert "SMR-E523 no room" in found["note"]
    assert told == {"waiting": "interrupted", "given_up": "stopped", "stopped": "stopped"}
    (run.path / "wanted.json").write_text("{")
    assert facts(dashboard(tmp_path), "/api/runs")["runs"][0]["state"] == "interrupted"


def test_partial_participation_is_told_wherever_a_run_is_shown(tmp_path: Path) -> None:
    def silent(site: ToySite, message: Any, reply: Any) -> Failure:
        return Failure("the door is closed")

    run = make_run(tmp_path / "runs" / "study", make_plan("a", "b", federation={"min_sites": 1}))
    drive(run, ToyTransport("a", "b", faults={"b": silent}))
    board = dashboard(tmp_path)
    for path in ("/", "/runs/study", "/api/runs", "/api/runs/study"):
        assert "counted in none of 4 rounds" in page(board, path), path


def _state(run: RunDirectory) -> str:
    return progress_of(read_run(run.path)).state


def test_looking_never_keeps_a_driver_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_plan("a"))
    assert is_driven(run.path) is False
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            is_driven(run.path)
            read_run(run.path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(200):
            with run.lock():
                assert is_driven(run.path) in (True, None)
    finally:
        stop.set()
        looking.join()
    assert is_driven(run.path) is False


def test_the_end_is_expected_from_the_last_rounds_and_a_break_counts_little(
    tmp_path: Path,
) -> None:
    plan = make_plan("a", training={"rounds": 30})
    run = recorded(tmp_path / "run", plan, 20)
    with run.lock():
        files = read_run(run.path)
        now = T0 + timedelta(minutes=20, seconds=50)
        found = progress_of(files, now)
    assert found.seconds_per_round == pytest.approx(60)
    assert found.ends_at == now + timedelta(minutes=10)
    broken = [
        r.model_copy(update={"started_at": (T0 + timedelta(days=3, minutes=r.round)).isoformat()})
        if r.round > 10
        else r
        for r in files.history
    ]
    paused = progress_of(
        read_run(run.path).__class__(**{**files.__dict__, "history": tuple(broken)}), now
    )
    assert paused.seconds_per_round is not None
    assert paused.seconds_per_round < 70


def test_half_written_and_damaged_files_never_break_a_page(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    board = dashboard(tmp_path)
    newest = run.path / "rounds" / "00004" / "state.json"
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    found = facts(board, "/api/runs/study")
    assert found["rounds_completed"] == 3
    assert "round 4 cannot be read" in found["problem"]
    newest.write_bytes(whole)
    assert facts(board, "/api/runs/study")["rounds_completed"] == 4
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(b'{"kind": "round_sta')
    with (run.path / "receipts.jsonl").open("ab") as file:
        file.write(b'{"number": 999, "ti')
    assert facts(board, "/api/runs/study")["receipts"]["problem"] is None
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(b'\nnull\n[]\n{"kind":"new_in_a_later_version","round":4,"extra":"told"}\n')
    assert "extra=told" in page(board, "/runs/study")
    (run.path / "finalised.json").write_bytes(b"{")
    (run.path / "stopped.json").write_bytes(b"\x00")
    page(board, "/runs/study")
    for name in ("plan.json", "run.json"):
        kept = (run.path / name).read_bytes()
        (run.path / name).write_bytes(kept[:20])
        assert "cannot be read" in page(board, "/")
        assert "SMR-E530" in page(board, "/runs/study")
        (run.path / name).write_bytes(kept)
    shutil.rmtree(run.path / "rounds")
    page(board, "/runs/study")
    shutil.rmtree(run.path)
    assert board(Question("/runs/study", {})) is None
    page(board, "/")


def test_a_changed_receipt_and_a_reply_without_one_are_told(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    board = dashboard(tmp_path)
    path = run.path / "receipts.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.unlink()
    path.write_bytes(b"".join(lines[:-1]))
    found = facts(board, "/api/runs/study")["receipts"]
    assert found["problem"] is not None
    assert len(found["without_receipt"]) == 1
    assert "SMR-E561" in page(board, "/runs/study")
    path.unlink()
    path.write_bytes(b"".join(lines).replace(b'"bytes":', b'"bytes": 1', 1))
    assert "SMR-E561" in page(board, "/runs/study")


def test_runs_are_found_by_their_names_alone(tmp_path: Path) -> None:
    a_run(tmp_path)
    outside = make_run(tmp_path / "elsewhere" / "secret", make_plan("a"))
    (tmp_path / "runs" / "link").symlink_to(outside.path)
    board = dashboard(tmp_path)
    for name in ("link", "..", "../elsewhere/secret", ".", "", "study/..", "%2e%2e"):
        assert board(Question(f"/runs/{name}", {})) is None, name
    assert [one["name"] for one in facts(board, "/api/runs")["runs"]] == ["study"]


def test_a_run_of_an_odd_name_is_linked_and_escaped(tmp_path: Path) -> None:
    a_run(tmp_path, name='a"><i> b&c')
    text = page(dashboard(tmp_path), "/")
    assert "<i>" not in text
    assert "/runs/a%22%3E%3Ci%3E%20b%26c" in text
    assert "<i>" not in page(dashboard(tmp_path), '/runs/a"><i> b&c')


def test_many_long_runs_take_little_memory(tmp_path: Path) -> None:
    """What is kept of each run in the list does not grow with its rounds."""
    plan = make_plan("a", "b", "c", training={"rounds": 300})
    first = recorded(tmp_path / "runs" / "run-0", plan, 300)
    for number in range(1, 12):
        shutil.copytree(first.path, tmp_path / "runs" / f"run-{number}")
    board = dashboard(tmp_path)
    for _ in range(60):
        listed = facts(board, "/api/runs")["runs"]
        if not any(one.get("being_read") for one in listed):
            break
    assert [one["rounds_completed"] for one in listed] == [300] * 12
    for number in range(12):
        assert "older rounds" in page(board, f"/runs/run-{number}")
    short = board._runs._short.values()
    assert max(len(one.files.history) for one in short if one.files is not None) <= 21
    assert len(board._runs._open) <= 4
    older = page(board, "/runs/run-0", upto="20")
    assert "newest rounds" in older
    assert older.count("<tr>") < 120


def test_an_unchanged_run_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path)
    board = dashboard(tmp_path)
    page(board, "/runs/study")
    page(board, "/")
    import server.dashboard.catalogue as catalogue

    def read(path: Path) -> Any:
        raise AssertionError("read again")

    monkeypatch.setattr(catalogue, "read_run", read)
    page(board, "/runs/study")
    page(board, "/")
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(b'{"kind":"x","round":1}\n')
    with pytest.raises(AssertionError):
        board(Question("/runs/study", {}))
