"""The reply store: the same bytes again, whatever happens to the process in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from client.agent.replies import Question, ReplyStore
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed, seal

KEY = Ed25519PrivateKey.generate()


def question(
    round_number: int = 1, kind: str = "train", digest: str = "a" * 64, run: str = "run-1"
) -> Question:
    return Question(run, round_number, kind, digest)  # type: ignore[arg-type]


def answer(store: ReplyStore, asked: Question, body: bytes = b"body") -> Sealed:
    assert store.find(asked) is None
    store.claim(asked)
    reply = seal(f"{asked.round}{asked.kind}".encode(), body, KEY)
    store.save(asked, reply)
    return reply


@settings(max_examples=20)
@given(header=st.binary(max_size=300), body=st.binary(max_size=3000))
def test_a_reply_survives_the_disk_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, header: bytes, body: bytes
) -> None:
    folder = tmp_path_factory.mktemp("replies")
    store = ReplyStore(folder)
    reply = seal(header, body, KEY)
    store.claim(question())
    store.save(question(), reply)
    assert ReplyStore(folder).find(question()) == reply


def test_another_instruction_for_the_same_round_is_refused(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path)
    answer(store, question())
    with pytest.raises(SmrfedError, match="SMR-E403"):
        store.find(question(digest="b" * 64))


def test_a_begun_round_accepts_only_its_own_instruction_after_a_crash(tmp_path: Path) -> None:
    ReplyStore(tmp_path).claim(question())
    store = ReplyStore(tmp_path)
    assert store.find(question()) is None
    with pytest.raises(SmrfedError, match="SMR-E403"):
        store.find(question(digest="b" * 64))


def test_rounds_only_go_forward(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path)
    answer(store, question(5))
    with pytest.raises(SmrfedError, match="SMR-E404"):
        store.find(question(4))
    assert store.find(question(1, run="run-2")) is None
    answer(store, question(5, "finalise"))
    # Nothing follows: the hospital has fitted its own parameters to its patients by then.
    for number, kind in ((5, "train"), (6, "train"), (6, "evaluate"), (6, "finalise")):
        with pytest.raises(SmrfedError, match="SMR-E404"):
            store.find(question(number, kind, "a" * 64))


def test_old_answers_are_dropped_and_then_refused(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path, keep=2)
    replies = {n: answer(store, question(n)) for n in range(1, 6)}
    assert store.find(question(4)) == replies[4]
    assert store.find(question(5)) == replies[5]
    with pytest.raises(SmrfedError, match="SMR-E404"):
        store.find(question(3))
    final = answer(store, question(5, "finalise"))
    assert [path.name for path in tmp_path.glob("run-1/*.reply")] == ["0000005-finalise.reply"]
    assert store.find(question(5, "finalise")) == final
    assert store.runs() == {"run-1": (5, "finalise")}


def test_within_a_round_looks_follow_the_update_and_calibration_precedes_the_last_one(
    tmp_path: Path,
) -> None:
    store = ReplyStore(tmp_path, keep=2)
    # The answers of the last rounds are kept whole, however many there are of each.
    for number in (1, 2, 3):
        for kind in ("train", "evaluate"):
            answer(store, question(number, kind))
    kept = [path.name for path in sorted(tmp_path.glob("run-1/*.reply"))]
    assert kept == [
        f"{number:07d}-{kind}.reply" for number in (2, 3) for kind in ("evaluate", "train")
    ]
    for kind in ("calibrate", "train"):
        with pytest.raises(SmrfedError, match=r"SMR-E40[34]"):
            store.find(question(3, kind, "b" * 64))
    for kind in ("train", "calibrate", "evaluate", "finalise"):
        answer(store, question(4, kind))
    assert store.runs() == {"run-1": (4, "finalise")}


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "empty"])
def test_a_damaged_answer_is_an_error_and_never_sent(tmp_path: Path, damage: str) -> None:
    store = ReplyStore(tmp_path)
    answer(store, question(), b"x" * 100)
    path = tmp_path / "run-1" / "0000001-train.reply"
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(
        {"flip": bytes(data), "cut": data[:-1], "grow": data + b"0", "empty": b""}[damage]
    )
    with pytest.raises(SmrfedError, match="SMR-E407"):
        store.find(question())


WRITER = """
import sys
from pathlib import Path
from client.agent.replies import Question, ReplyStore
from shared_model.protocol.sealed import Sealed
store = ReplyStore(Path(sys.argv[1]), keep=100000)
print("ready", flush=True)
number = 0
while True:
    number += 1
    asked = Question("run-1", number, "train", "a" * 64)
    store.claim(asked)
    store.save(asked, Sealed(b"h", bytes([number % 251]) * 200_000, b"s" * 64))
"""


def test_a_killed_writer_leaves_whole_answers_only(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        while len(list(tmp_path.glob("run-1/*.reply"))) < 3:
            assert process.poll() is None
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    store = ReplyStore(tmp_path, keep=100000)
    store.remove_leftovers()
    assert not list(tmp_path.glob("*/.*"))
    newest = store.newest("run-1")
    assert newest is not None
    for number in range(1, newest[0] + 1):
        reply = store.find(question(number))
        assert reply is not None
        assert reply.body == bytes([number % 251]) * 200_000
    # The next round may have been begun, but is not answered.
    assert store.find(question(newest[0] + 1)) is None


def test_invented_runs_cannot_fill_the_disk(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path, max_runs=2)
    for run in ("run-1", "run-2"):
        answer(store, question(run=run))
    with pytest.raises(SmrfedError, match="SMR-E423"):
        store.claim(question(run="run-3"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-1", "run-2"]
    # The runs that are known go on.
    answer(store, question(2, run="run-2"))
