"""The service: real gRPC over a real unix socket, with a small agent that counts its work."""

from __future__ import annotations

import os
import socket as sockets
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from client.agent.agent_pb2 import Chunk, Opening
from client.agent.service import Service, serve
from client.agent.socket_path import MAX_PATH_BYTES
from client.agent.state_lock import StateLock
from client.agent.status import AgentStatus
from client.agent.stub import AgentClient
from client.agent.wire import CHUNK_BYTES
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed

MESSAGE = Sealed(b"header", b"b" * (3 * CHUNK_BYTES + 7), b"s" * 64)


class Echo:
    """Turns the body around; refuses or breaks on request."""

    max_body_bytes = 16 * CHUNK_BYTES

    def __init__(self) -> None:
        self.handled = 0
        self.noted: list[str] = []

    def handle(self, instruction: Sealed) -> Sealed:
        self.handled += 1
        if instruction.header == b"refuse":
            raise SmrfedError("SMR-E402", "for site-b, not sub-077", found="sub-077", remedy="none")
        if instruction.header == b"break":
            raise ValueError("sub-077 of 12 patients")
        return Sealed(instruction.header, instruction.body[::-1], instruction.signature)

    def refused(self, error: SmrfedError) -> None:
        self.noted.append(error.code)

    def status(self) -> AgentStatus:
        return AgentStatus("site-a", "plan", "0" * 64, "ab-cd", "idle", "run-1", 3, "train", 1.5)


@pytest.fixture
def agent() -> Echo:
    return Echo()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "agent.sock"


@pytest.fixture
def service(agent: Echo, path: Path) -> Iterator[Service]:
    service = serve(agent, path)
    yield service
    service.stop(0)


def test_a_message_of_several_chunks_goes_there_and_back(service: Service, path: Path) -> None:
    with AgentClient(path) as client:
        assert client.handle(MESSAGE) == Sealed(b"header", MESSAGE.body[::-1], b"s" * 64)
        assert client.handle(Sealed(b"", b"", b"s" * 64)).body == b""
        assert client.status().round == 3
        assert client.status().started_at_s == 1.5


def test_the_socket_is_the_owners_alone(service: Service, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(("header", "code"), [(b"refuse", "SMR-E402"), (b"break", "SMR-E410")])
def test_refusals_arrive_as_numbers_without_what_they_found(
    service: Service, path: Path, header: bytes, code: str
) -> None:
    with AgentClient(path) as client, pytest.raises(SmrfedError) as caught:
        client.handle(Sealed(header, b"", b"s" * 64))
    assert caught.value.code == code
    assert "077" not in caught.value.render()
    assert "12" not in caught.value.render()


def test_without_an_agent_the_error_says_how_to_start_it(path: Path) -> None:
    with AgentClient(path) as client, pytest.raises(SmrfedError, match="smrfed-site run") as caught:
        client.handle(MESSAGE)
    assert caught.value.code == "SMR-E412"


def test_a_body_above_the_plans_size_is_refused_before_the_agent(
    service: Service, path: Path, agent: Echo
) -> None:
    large = Sealed(b"h", bytes(Echo.max_body_bytes + 1), b"s" * 64)
    with AgentClient(path) as client:
        with pytest.raises(SmrfedError, match="SMR-E413"):
            client.handle(large)
        assert agent.handled == 0
        assert client.handle(MESSAGE).header == b"header"


def raw_call(path: Path, messages: list[bytes]) -> grpc.RpcError:
    """Send bytes as they are to Handle and give back the error."""
    with grpc.insecure_channel(
        f"unix:{path}", options=[("grpc.default_authority", "localhost")]
    ) as channel:
        call = channel.stream_stream("/smrfed.agent.v1.Agent/Handle")
        with pytest.raises(grpc.RpcError) as caught:
            list(call(iter(messages), timeout=30))
    return caught.value


@pytest.mark.parametrize(
    "messages",
    [
        [b"\xff" * 50],
        [b""],
        [],
        [Chunk(opening=Opening(header=b"h", signature=b"short")).SerializeToString()],
        [Chunk(opening=Opening(header=b"h" * (1 << 21))).SerializeToString()],
        [
            Chunk(opening=Opening(header=b"h", body_bytes=10**7)).SerializeToString(),
            Chunk(body=b"x" * (3 << 20)).SerializeToString(),
        ],
        [b"x" * (8 << 20)],
    ],
    ids=["garbage", "empty", "nothing", "signature", "header", "piece", "huge"],
)
def test_garbage_never_reaches_the_agent(
    service: Service, path: Path, agent: Echo, messages: list[bytes]
) -> None:
    raw_call(path, messages)
    assert agent.handled == 0
    # The caller may know before the handler does.
    deadline = time.monotonic() + 20
    while not agent.noted and time.monotonic() < deadline:
        time.sleep(0.01)
    assert agent.noted[0] in ("SMR-E111", "SMR-E112", "SMR-E413")
    with AgentClient(path) as client:
        assert client.handle(MESSAGE).header == b"header"


def test_bytes_that_are_not_grpc_do_not_stop_the_service(service: Service, path: Path) -> None:
    with sockets.socket(sockets.AF_UNIX) as raw:
        raw.connect(str(path))
        raw.sendall(os.urandom(4096))
    with AgentClient(path) as client:
        assert client.handle(MESSAGE).header == b"header"


def test_callers_that_never_finish_do_not_keep_others_out(agent: Echo, path: Path) -> None:
    service = serve(agent, path, receive_s=1.0)
    release = threading.Event()

    def unfinished() -> Iterator[bytes]:
        yield Chunk(
            opening=Opening(header=b"h", signature=bytes(64), body_bytes=5)
        ).SerializeToString()
        release.wait(60)

    options = [("grpc.default_authority", "localhost")]
    try:
        with grpc.insecure_channel(f"unix:{path}", options=options) as channel:
            call = channel.stream_stream("/smrfed.agent.v1.Agent/Handle")
            held = [call(unfinished()) for _ in range(8)]
            for one in held:
                with pytest.raises(grpc.RpcError):
                    list(one)
            with AgentClient(path) as client:
                assert client.handle(MESSAGE).header == b"header"
    finally:
        release.set()
        service.stop(0)
    assert set(agent.noted) <= {"SMR-E413"}
    assert agent.handled == 1


def test_a_dead_agents_socket_is_replaced(agent: Echo, path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    with sockets.socket(sockets.AF_UNIX) as stale:
        stale.bind(str(path))
    with AgentClient(path) as client, pytest.raises(SmrfedError, match="SMR-E412"):
        client.status()
    service = serve(agent, path)
    try:
        with AgentClient(path) as client:
            assert client.status().site == "site-a"
    finally:
        service.stop(0)
    assert not path.exists()


def test_a_path_that_cannot_be_a_private_socket_is_refused(agent: Echo, tmp_path: Path) -> None:
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    taken = tmp_path / "file"
    taken.write_text("data")
    for bad in (open_folder / "s", taken, tmp_path / ("x" * MAX_PATH_BYTES)):
        with pytest.raises(SmrfedError, match="SMR-E411"):
            serve(agent, bad)
    assert taken.read_text() == "data"


def test_two_calls_at_once_are_both_answered(service: Service, path: Path) -> None:
    replies = []

    def ask() -> None:
        with AgentClient(path) as client:
            replies.append(client.handle(MESSAGE))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 4


def test_one_agent_per_state_folder(tmp_path: Path) -> None:
    first = StateLock(tmp_path / "state")
    with pytest.raises(SmrfedError, match=f"process {os.getpid()}") as caught:
        StateLock(tmp_path / "state")
    assert caught.value.code == "SMR-E408"
    first.release()
    StateLock(tmp_path / "state").release()


def test_a_killed_process_frees_its_lock(tmp_path: Path) -> None:
    program = (
        "import os, sys, time; from pathlib import Path; "
        "from client.agent.state_lock import StateLock; "
        "lock = StateLock(Path(sys.argv[1])); print('locked', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(SmrfedError, match=f"process {process.pid}"):
            StateLock(tmp_path)
    finally:
        process.kill()
        process.wait()
    StateLock(tmp_path).release()


def test_the_stub_loads_no_heavy_package() -> None:
    program = (
        "import sys; import client.agent.stub; "
        "print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
