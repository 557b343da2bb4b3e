"""The Flower transport: who a message goes to, what comes back, and what a failure is called."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import httpx
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.courier import envelope as courier
from server.flower import transport as flower
from server.flower.transport import FlowerTransport
from server.rounds.transport import Failure, RunOverError
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed

INSTRUCTION = Sealed(b'{"round": 1}', b"parameters" * 10, bytes(64))
REPLY = Sealed(b'{"round": 1, "site": "north"}', b"delta" * 20, bytes(range(64)))


@pytest.fixture(autouse=True)
def _flower_process() -> Iterator[None]:
    # Flower lets messages be made only in a process that it gave a task.
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
    yield
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = None


@dataclass
class FakeGrid:
    """SuperNodes by name, and the messages that were sent to them."""

    nodes: dict[str, SimpleNamespace]
    sent: list[Message] = field(default_factory=list)
    replies: dict[str, Message] = field(default_factory=dict)
    refuses: bool = False
    asked_for: list[list[str]] = field(default_factory=list)

    def get_nodes(self) -> Iterable[SimpleNamespace]:
        return list(self.nodes.values())

    def push_messages(self, messages: Iterable[Message]) -> list[str | None]:
        out: list[str | None] = []
        for message in messages:
            handle = f"message-{len(self.sent)}"
            message.metadata.__dict__["_message_id"] = handle
            self.sent.append(message)
            out.append(None if self.refuses else handle)
        return out

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        ids = list(message_ids)
        self.asked_for.append(ids)
        return [self.replies.pop(i) for i in ids if i in self.replies]


def node(number: int, name: str, activated: str = "2026-01-01T00:00:00") -> SimpleNamespace:
    return SimpleNamespace(node_id=number, name=name, last_activated_at=activated)


@pytest.fixture
def grid() -> FakeGrid:
    return FakeGrid({"a": node(11, "north"), "b": node(22, "south")})


def test_an_instruction_reaches_the_node_that_bears_the_sites_name(grid: FakeGrid) -> None:
    FlowerTransport(grid).push("south", INSTRUCTION, 77.0)
    (message,) = grid.sent
    assert message.metadata.dst_node_id == 22
    assert message.metadata.ttl == 77.0 + 5.0  # beyond the deadline, which the driver keeps itself
    assert courier.unpack(message.content) == INSTRUCTION


def test_a_reply_comes_back_as_the_bytes_that_the_courier_packed(grid: FakeGrid) -> None:
    transport = FlowerTransport(grid)
    handle = transport.push("north", INSTRUCTION, 60.0)
    assert transport.poll(handle) is None
    grid.replies[handle] = Message(courier.pack(REPLY), reply_to=grid.sent[0])
    assert transport.poll(handle) == REPLY


def test_replies_are_pulled_one_at_a_time(grid: FakeGrid) -> None:
    transport = FlowerTransport(grid)
    handles = [transport.push(site, INSTRUCTION, 60.0) for site in ("north", "south")]
    for handle in handles:
        transport.poll(handle)
    assert grid.asked_for == [[handle] for handle in handles]


def test_a_reply_whose_upload_hangs_does_not_hold_up_the_others(
    grid: FakeGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower waits for every chunk of a reply; a site may die while it sends."""
    monkeypatch.setattr(flower, "_PULL_S", 0.05)
    arrives = threading.Event()
    really = grid.pull_messages

    def pull_messages(message_ids: Iterable[str]) -> list[Message]:
        ids = list(message_ids)
        if ids == [handles["north"]]:
            assert arrives.wait(60)
        return really(ids)

    monkeypatch.setattr(grid, "pull_messages", pull_messages)
    transport = FlowerTransport(grid)
    handles = {site: transport.push(site, INSTRUCTION, 60.0) for site in ("north", "south")}
    for message, handle in zip(grid.sent, handles.values(), strict=True):
        grid.replies[handle] = Message(courier.pack(REPLY), reply_to=message)
    assert transport.poll(handles["north"]) is None
    assert transport.poll(handles["south"]) == REPLY
    assert transport.poll(handles["north"]) is None
    arrives.set()
    deadline = time.monotonic() + 60
    while (answer := transport.poll(handles["north"])) is None:
        assert time.monotonic() < deadline
    assert answer == REPLY
    # Asked for once: Flower gives a reply away only once.
    assert grid.asked_for.count([handles["north"]]) == 1


@pytest.mark.parametrize(("status", "ends"), [(401, True), (403, True), (500, False)])
def test_a_superlink_that_gave_the_run_up_ends_it_and_an_error_of_its_own_does_not(
    grid: FakeGrid, monkeypatch: pytest.MonkeyPatch, status: int, ends: bool
) -> None:
    transport = FlowerTransport(grid)
    handle = transport.push("north", INSTRUCTION, 60.0)

    def refuse(_: Iterable[object]) -> list[str | None]:
        request = httpx.Request("POST", "https://superlink/v1/runtime")
        response = httpx.Response(status, text="no such token", request=request)
        raise httpx.HTTPStatusError("refused", request=request, response=response)

    monkeypatch.setattr(grid, "push_messages", refuse)
    monkeypatch.setattr(grid, "pull_messages", refuse)
    expected = RunOverError if ends else httpx.HTTPStatusError
    with pytest.raises(expected):
        transport.push("south", INSTRUCTION, 60.0)
    with pytest.raises(expected):
        transport.poll(handle)


def test_the_global_parameters_are_one_object_for_all_sites(grid: FakeGrid) -> None:
    transport = FlowerTransport(grid)
    for site in ("north", "south"):
        transport.push(site, Sealed(site.encode(), INSTRUCTION.body, bytes(64)), 60.0)
    bodies = {message.content["arrays"].object_id for message in grid.sent}
    assert len(bodies) == 1
    assert len({message.content["envelope"].object_id for message in grid.sent}) == 2


def test_a_site_that_is_not_connected_is_named(grid: FakeGrid) -> None:
    with pytest.raises(SmrfedError, match="site 'west' is not connected") as raised:
        FlowerTransport(grid).push("west", INSTRUCTION, 60.0)
    assert raised.value.code == "SMR-E501"


def test_a_site_that_connects_later_is_found_at_once(grid: FakeGrid) -> None:
    transport = FlowerTransport(grid)
    with pytest.raises(SmrfedError):
        transport.push("west", INSTRUCTION, 60.0)
    grid.nodes["c"] = node(33, "west")
    transport.push("west", INSTRUCTION, 60.0)
    assert grid.sent[-1].metadata.dst_node_id == 33


def test_of_two_nodes_with_one_name_the_newer_is_asked(grid: FakeGrid) -> None:
    grid.nodes["old"] = node(10, "north", "2025-12-31T00:00:00")
    FlowerTransport(grid).push("north", INSTRUCTION, 60.0)
    assert grid.sent[0].metadata.dst_node_id == 11


def test_a_message_that_the_superlink_refuses_is_not_sent(grid: FakeGrid) -> None:
    grid.refuses = True
    with pytest.raises(SmrfedError, match="not connected") as raised:
        FlowerTransport(grid).push("north", INSTRUCTION, 60.0)
    assert raised.value.code == "SMR-E501"


def test_a_site_that_restarted_with_the_message_in_hand_has_failed(
    grid: FakeGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flower, "_LOOK_AROUND_S", -1.0)
    transport = FlowerTransport(grid)
    handles = {site: transport.push(site, INSTRUCTION, 60.0) for site in ("north", "south")}
    del grid.nodes["b"]  # not back yet: its reply may still be on its way
    grid.nodes["a"] = node(11, "north", "2026-01-01T00:00:09")
    answer = transport.poll(handles["north"])
    assert isinstance(answer, Failure)
    assert "'north' reconnected" in answer.reason
    assert transport.poll(handles["south"]) is None


def test_an_error_that_the_superlink_made_up_names_the_right_site(grid: FakeGrid) -> None:
    transport = FlowerTransport(grid)
    handle = transport.push("south", INSTRUCTION, 60.0)
    grid.replies[handle] = Message(Error(code=5, reason="Node unavailable"), reply_to=grid.sent[0])
    answer = transport.poll(handle)
    assert isinstance(answer, Failure)
    assert "'south'" in answer.reason
    assert "Node unavailable" in answer.reason


def test_a_couriers_error_arrives_as_number_and_title(grid: FakeGrid) -> None:
    transport = FlowerTransport(grid)
    handle = transport.push("north", INSTRUCTION, 60.0)
    grid.replies[handle] = Message(courier.pack_error("SMR-E450"), reply_to=grid.sent[0])
    assert transport.poll(handle) == Failure(
        "site 'north': SMR-E450: the courier finds no site agent", "SMR-E450"
    )


def test_a_closed_door_arrives_as_a_site_that_answers_later(grid: FakeGrid) -> None:
    for found, words in (
        ("opens at 2026-11-23T08:00Z", "data may not leave the hospital now; opens at 2026-11-23"),
        ("12 patients; opens at 2026-11-23T08:00Z", "the site's agent declined"),
    ):
        transport = FlowerTransport(grid)
        handle = transport.push("north", INSTRUCTION, 60.0)
        answer = courier.pack_error("SMR-E360", found)
        grid.replies[handle] = Message(answer, reply_to=grid.sent[-1])
        failure = transport.poll(handle)
        assert isinstance(failure, Failure)
        assert failure.later
        assert words in failure.reason
        assert "12 patients" not in failure.reason


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"envelope": ConfigRecord({"header": b"{}", "signature": bytes(64)})}),
        RecordDict({"envelope": ConfigRecord({"header": "text", "signature": 7})}),
        RecordDict({"error": ConfigRecord({})}),
        RecordDict({"error": ConfigRecord({"code": "x" * 5000, "title": "\x1b[2J\n"})}),
        {**courier.pack(REPLY), "envelope": ConfigRecord({"header": 1.5, "signature": b""})},
        {**courier.pack(REPLY), "envelope": ConfigRecord({"header": b"", "signature": b"x"})},
    ],
)
def test_a_hostile_reply_is_a_failure_in_bounded_printable_words(
    grid: FakeGrid, content: dict[str, ConfigRecord]
) -> None:
    transport = FlowerTransport(grid)
    handle = transport.push("north", INSTRUCTION, 60.0)
    grid.replies[handle] = Message(RecordDict(dict(content)), reply_to=grid.sent[0])
    answer = transport.poll(handle)
    assert isinstance(answer, Failure)
    assert answer.reason.isprintable()
    assert len(answer.reason) < 600
