"""A courier that is ended while it carries a message answers for it; else it ends at once."""

from __future__ import annotations

import signal
import socket as unix
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Flower registers its own handlers first; then a message is carried to an agent that hangs.
CARRYING = """
import sys, time
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from client.courier.app import carry
from client.courier.envelope import pack
from client.courier.stopping import StopSignals
from shared_model.protocol.sealed import Sealed

signals = StopSignals(lambda *a, **k: print("flower's own", a, k, flush=True))
signals.register_signal_handlers("event", exit_message="m")
TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
message = Message(pack(Sealed(b"{}", b"body", bytes(64))), 5, "query", ttl=600.0)
message.metadata.__dict__["_message_id"] = "1"
context = Context(run_id=1, node_id=5, node_config={"socket": sys.argv[1]}, state=RecordDict(),
                  run_config={})
print("carrying" if sys.argv[2] == "carry" else "idle", flush=True)
if sys.argv[2] == "idle":
    time.sleep(600)
with signals.carrying():
    answer = carry(message, context).content
time.sleep(1.0)  # the answer is pushed: the second signal must not cut it short
print(dict(answer["error"]), flush=True)
"""


def courier(folder: Path, what: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-c", CARRYING, str(folder / "agent.sock"), what]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )  # fmt: skip


@pytest.fixture
def hanging(tmp_path: Path) -> unix.socket:
    """An agent whose kernel takes the call; nobody reads it."""
    made = unix.socket(unix.AF_UNIX)
    made.bind(str(tmp_path / "agent.sock"))
    made.listen(8)
    return made


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_the_message_is_answered_with_a_number(
    tmp_path: Path, hanging: unix.socket, first: signal.Signals
) -> None:
    process = courier(tmp_path, "carry")
    try:
        assert process.stdout is not None
        assert "exit_message" in process.stdout.readline()
        assert process.stdout.readline() == "carrying\n"
        hanging.accept()
        process.send_signal(first)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "SMR-E459" in output
    assert process.returncode == 0


def test_without_a_message_it_ends_at_once(tmp_path: Path) -> None:
    process = courier(tmp_path, "idle")
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.stdout.readline() == "idle\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.communicate()
