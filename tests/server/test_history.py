"""A run's history in little memory: the same records, the same bytes on disk, read backwards."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from server.checkpoints.state import RunState, StateFile
from server.rounds.history import History, Later, Merged
from server.rounds.records import RoundRecord, SiteOutcome


def record(number: int, kind: str = "train", around: tuple[RoundRecord, ...] = ()) -> RoundRecord:
    sites = {
        name: SiteOutcome(accepted=True, pushes=1, reply_sha256=f"{number:064x}", seconds=0.1 / 3)
        for name in ("north", "söuth")
    }
    return RoundRecord(
        round=number, kind=kind, sites=sites, attempts=1, weight=10, seconds=1 / 3,
        started_at="2026-11-22T07:00:00.123+00:00", around=around,
    )  # fmt: skip


def test_records_come_back_as_they_were() -> None:
    records = tuple(record(number) for number in range(1, 6))
    history = History.of(records[:-1]).plus(records[-1])
    assert tuple(history) == records
    assert history[-1] == records[-1]
    assert tuple(history[1:3]) == records[1:3]
    assert len(history) == 5
    assert history == History.of(records)
    assert history != History.of(records[1:])
    assert History.of(history) is history
    with pytest.raises(IndexError):
        history[5]


def test_a_checkpoint_is_what_a_dump_of_everything_would_be() -> None:
    records = tuple(record(number) for number in range(1, 4))
    state = RunState(3, b"body", History.of(records), {"ema": b"average"})
    data = StateFile.encode(state, "run", "ab" * 32)
    assert data == StateFile.encode(
        RunState(3, b"body", records, state.optimiser), "run", "ab" * 32
    )
    read = StateFile.decode(data)
    assert read.history == records
    document = json.loads(data)
    assert document["state"] == read.model_dump(mode="json")


def test_an_indented_checkpoint_of_an_older_version_is_read() -> None:
    data = StateFile.encode(RunState(1, b"body", (record(1),)), "run", "ab" * 32)
    older = json.dumps(json.loads(data), indent=1, sort_keys=True).encode()
    assert StateFile.decode(older) == StateFile.decode(data)
    with pytest.raises(ValueError, match="does not match its own digest"):
        StateFile.decode(older.replace(b'"attempts": 1', b'"attempts": 2'))


def test_exchanges_are_read_from_the_newest_back() -> None:
    keys, unmask = record(2, "keys"), record(2, "unmask")
    rounds = History.of([record(1), record(2, around=(unmask, keys)), record(3)])
    between = [record(2, "moments"), record(2, "evaluate"), record(3, "evaluate")]
    merged = Merged(rounds, between, ("train", "moments", "evaluate"))
    end = record(3, "finalise")
    told = [(one.round, one.kind) for one in reversed(Later(merged, (end,)))]
    assert told == [
        (3, "finalise"), (3, "evaluate"), (3, "train"), (2, "evaluate"), (2, "moments"),
        (2, "unmask"), (2, "train"), (2, "keys"), (1, "train"),
    ]  # fmt: skip


def test_a_round_adds_no_more_than_its_json(tmp_path: Path) -> None:
    history = History()
    tracemalloc.start()
    try:
        for number in range(1, 301):
            history = history.plus(record(number))
            StateFile.encode(RunState(number, b"body", history), "run", "ab" * 32)
            if number == 100:
                before = tracemalloc.get_traced_memory()[0]
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert (after - before) / 200 < 1.3 * len(history.json) / 300
