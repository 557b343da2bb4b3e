"""A courier that is ended while it carries a message answers for it; else it ends at once."""

from __future__ import annotations

import signal
import socket as unix
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

# Flower registers its own handlers first; then a message is carried to an agent that hangs.
CARRYING = """
import os, random, signal, sys, threading, time
from pathlib import Path
import flwr.supernode.runtime.run_clientapp as flower
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from client.courier.envelope import pack
from client.courier.pinned import PinnedBundle
from shared_model.protocol.sealed import Sealed

def answer(*_):
    print("answer", flush=True)
    time.sleep(2.0)

flower.register_signal_handlers = lambda *a, **k: print("flower's own", a, k, flush=True)
flower.push_message = answer
def registered():
    made = PinnedBundle(Path(sys.argv[1]))
    made.register_signal_handlers("event", exit_message="m")
    return made

pinned = registered()
TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
message = Message(pack(Sealed(b"{}", b"body", bytes(64))), 5, "query", ttl=600.0)
message.metadata.__dict__["_message_id"] = "1"
context = Context(run_id=1, node_id=5, node_config={"socket": sys.argv[1] + "/agent.sock"},
                  state=RecordDict(), run_config={})
if sys.argv[2] == "answer":
    pinned.push_message(None, message, context)
    print("handed over", flush=True)
print({"carry": "carrying"}.get(sys.argv[2], sys.argv[2]), flush=True)
if sys.argv[2] == "early":
    pinned.install_from_fab(b"")
    os.kill(os.getpid(), signal.SIGTERM)
if sys.argv[2] in ("idle", "answer"):
    time.sleep(600)
if sys.argv[2] == "often":
    draw = random.Random(1)
    ended = threading.Event()
    def signals():
        while not ended.wait(draw.uniform(0, 0.004)):
            os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(int(sys.argv[3])):
        ended.clear()
        pinned = registered()
        pinned.install_from_fab(b"")
        thread = threading.Thread(target=signals)
        thread.start()
        print(pinned.carry_message(message, context).content["error"]["code"], flush=True)
        ended.set()
        thread.join()
    sys.exit()
pinned.install_from_fab(b"")
content = pinned.carry_message(message, context).content
print("answered", flush=True)
sys.stdin.readline()  # until the answer is pushed, the second signal must not end it
print(dict(content["error"]), flush=True)
"""


@contextmanager
def courier(folder: Path, *what: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A courier that registered its signals, and its output."""
    command = [sys.executable, "-P", "-c", CARRYING, str(folder), *what]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "exit_message" in process.stdout.readline()
        yield process, process.stdout
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def hanging(tmp_path: Path) -> unix.socket:
    """An agent whose kernel takes the call; nobody reads it."""
    made = unix.socket(unix.AF_UNIX)
    made.bind(str(tmp_path / "agent.sock"))
    made.listen(256)
    return made


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_the_message_is_answered_with_a_number(
    tmp_path: Path, hanging: unix.socket, first: signal.Signals
) -> None:
    with courier(tmp_path, "carry") as (process, output):
        assert output.readline() == "carrying\n"
        # Held: a call that is dropped is answered with SMR-E412 before any signal comes.
        call, _ = hanging.accept()
        process.send_signal(first)
        assert output.readline() == "answered\n"
        process.send_signal(signal.SIGTERM)
        assert "SMR-E459" in process.communicate("\n")[0]
        assert process.wait(60) == 0
        call.close()


def test_a_signal_at_any_moment_of_the_call_is_answered(
    tmp_path: Path, hanging: unix.socket
) -> None:
    """A handler that raised left gRPC's locks held in one of forty, and the courier hung."""
    with courier(tmp_path, "often", "200") as (process, output):
        answers = [line for line in output.read().splitlines() if "exit_message" not in line]
        assert answers == ["often", *["SMR-E459"] * 200]
        assert process.wait(60) == 0


def test_a_signal_between_the_message_and_the_call_is_answered(
    tmp_path: Path, hanging: unix.socket
) -> None:
    with courier(tmp_path, "early") as (process, _):
        assert "SMR-E459" in process.communicate("\n")[0]
        assert process.wait(60) == 0


def test_an_answer_is_handed_over_whole_whatever_signal_comes(tmp_path: Path) -> None:
    with courier(tmp_path, "answer") as (process, output):
        assert output.readline() == "answer\n"
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            process.send_signal(number)
        assert output.readline() == "handed over\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM


def test_without_a_message_it_ends_at_once(tmp_path: Path) -> None:
    with courier(tmp_path, "idle") as (process, output):
        assert output.readline() == "idle\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
