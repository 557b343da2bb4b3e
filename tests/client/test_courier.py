"""The courier between Flower and a real agent service: bytes pass unchanged, reasons survive."""

from __future__ import annotations

import contextlib
import socket as unix
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.agent.service import serve
from client.agent.status import AgentStatus
from client.courier.app import carry
from client.courier.envelope import pack, unpack
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed

INSTRUCTION = Sealed(b'{"kind": "train"}', bytes(range(256)) * 20_000, bytes(64))


@pytest.fixture(autouse=True)
def _flower_process() -> Iterator[None]:
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
    yield
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = None


class Mirror:
    """An agent that turns the body around, or refuses with an error that tells too much."""

    max_body_bytes = 1 << 24

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def handle(self, instruction: Sealed) -> Sealed:
        if self._error is not None:
            raise self._error
        return Sealed(instruction.header + b" answered", instruction.body[::-1], bytes(range(64)))

    def refused(self, error: SmrfedError) -> None:
        pass

    def status(self) -> AgentStatus:
        return AgentStatus("north", "", "", "", "idle", "", 0, "", 0.0)


def send(content: RecordDict, socket: object, ttl: float | None = None) -> RecordDict:
    """What the coordinator receives for ``content`` from a node with this configuration."""
    message = Message(content, 5, "query", ttl=ttl)
    message.metadata.__dict__["_message_id"] = "1"
    config = {} if socket is None else {"socket": socket}
    context = Context(run_id=1, node_id=5, node_config=config, state=RecordDict(), run_config={})
    return carry(message, context).content


def listener(path: Path) -> unix.socket:
    """A process that was stopped: its socket is there."""
    made = unix.socket(unix.AF_UNIX)
    made.bind(str(path))
    made.listen(8)
    return made


def error_of(content: RecordDict) -> tuple[str, str]:
    assert list(content) == ["error"]
    record = content["error"]
    assert set(record) == {"code", "title"}
    return record["code"], record["title"]


@pytest.fixture
def socket() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="smrfed-") as folder:
        yield Path(folder) / "agent.sock"


def test_bytes_pass_in_both_directions(socket: Path) -> None:
    service = serve(Mirror(), socket)
    try:
        reply = unpack(send(pack(INSTRUCTION), str(socket)))
    finally:
        service.stop(0)
    assert reply == Sealed(
        INSTRUCTION.header + b" answered", INSTRUCTION.body[::-1], bytes(range(64))
    )


def test_a_refusal_leaves_as_its_number_without_what_was_found(socket: Path) -> None:
    refusal = SmrfedError(
        "SMR-E401", "sub-SECRET is not in the plan", found="sub-SECRET", remedy="none"
    )
    service = serve(Mirror(refusal), socket)
    try:
        code, title = error_of(send(pack(INSTRUCTION), str(socket)))
    finally:
        service.stop(0)
    assert code == "SMR-E401"
    assert "SECRET" not in title


def test_a_crash_of_the_agent_leaves_as_a_number(socket: Path) -> None:
    service = serve(Mirror(RuntimeError("sub-SECRET")), socket)
    try:
        code, title = error_of(send(pack(INSTRUCTION), str(socket)))
    finally:
        service.stop(0)
    assert code == "SMR-E410"
    assert "SECRET" not in title


@pytest.mark.parametrize("ttl", [1.5, 0.0, -5.0])
def test_an_agent_that_hangs_is_waited_for_as_long_as_the_message_lives(
    socket: Path, ttl: float
) -> None:
    with contextlib.closing(listener(socket)):  # the kernel takes the call; nobody reads it
        code, _ = error_of(send(pack(INSTRUCTION), str(socket), ttl))
    assert code in ("SMR-E412", "SMR-E414")


@pytest.mark.parametrize("configured", [None, 7, "", "no-such-socket"])
def test_an_agent_that_is_not_there_is_reported(configured: object) -> None:
    code, _ = error_of(send(pack(INSTRUCTION), configured))
    assert code == "SMR-E450"


def test_a_socket_that_nobody_listens_on_is_reported(socket: Path) -> None:
    service = serve(Mirror(), socket)
    # The process is gone and its socket file is left: as after a kill -9.
    socket.rename(socket.with_suffix(".moved"))
    service.stop(0)
    socket.with_suffix(".moved").rename(socket)
    code, _ = error_of(send(pack(INSTRUCTION), str(socket)))
    assert code == "SMR-E412"


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"envelope": ConfigRecord({"header": b"{}", "signature": bytes(64)})}),
        RecordDict({"envelope": ConfigRecord({"header": "text", "signature": bytes(64)})}),
        RecordDict({**pack(INSTRUCTION), "envelope": ConfigRecord({"header": 1, "signature": 2})}),
    ],
)
def test_a_message_outside_the_protocol_does_not_reach_the_agent(
    socket: Path, content: RecordDict
) -> None:
    service = serve(Mirror(), socket)
    try:
        code, _ = error_of(send(content, str(socket)))
    finally:
        service.stop(0)
    assert code == "SMR-E451"


def test_an_oversized_header_is_refused_by_number(socket: Path) -> None:
    service = serve(Mirror(), socket)
    content = RecordDict(dict(pack(INSTRUCTION)))
    content["envelope"] = ConfigRecord({"header": bytes(2 << 20), "signature": bytes(64)})
    try:
        code, _ = error_of(send(content, str(socket)))
    finally:
        service.stop(0)
    assert code == "SMR-E111"


def test_the_courier_imports_no_torch_and_no_pydantic() -> None:
    program = (
        "import sys; import flwr.clientapp; before = set(sys.modules)\n"
        "import client.courier.app, client.agent.stub\n"
        "heavy = {'torch', 'monai', 'pydantic', 'scipy', 'nibabel', 'safetensors'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
