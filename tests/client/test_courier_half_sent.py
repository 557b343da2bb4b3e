"""A courier that dies half-way through handing over its answer is known of; no other one is."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.courier.half_sent import HalfSent, NotedClient, abandoned, forget

HANDING_OVER = """
import sys
from pathlib import Path
from client.courier.half_sent import HalfSent

note = HalfSent(Path(sys.argv[1]))
note.begin()
print("begun", flush=True)
sys.stdin.readline()
note.done()
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def courier(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", HANDING_OVER, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    yield process
    process.kill()
    process.communicate()


def notes(folder: Path) -> list[str]:
    return [path.name for path in (folder / "half-sent").iterdir()]


def test_one_that_is_killed_is_known_of_until_it_is_forgotten(
    tmp_path: Path, courier: subprocess.Popen[str]
) -> None:
    assert abandoned(tmp_path) is None
    courier.send_signal(signal.SIGKILL)
    courier.wait(30)
    assert "courier has died" in (abandoned(tmp_path) or "")
    assert abandoned(tmp_path) is not None
    forget(tmp_path)
    assert abandoned(tmp_path) is None


def test_one_that_hands_over_all_leaves_nothing(
    tmp_path: Path, courier: subprocess.Popen[str]
) -> None:
    assert courier.stdin is not None
    assert courier.stdout is not None
    assert notes(tmp_path) == [str(courier.pid)]
    courier.stdin.write("\n")
    courier.stdin.flush()
    assert courier.stdout.readline() == "done\n"
    assert notes(tmp_path) == []
    courier.kill()
    courier.wait(30)
    assert abandoned(tmp_path) is None


def test_what_a_started_supernode_forgot_is_not_brought_back(
    tmp_path: Path, courier: subprocess.Popen[str]
) -> None:
    forget(tmp_path)
    courier.kill()
    courier.wait(30)
    assert abandoned(tmp_path) is None


def test_where_nothing_was_ever_sent_nothing_is_abandoned(tmp_path: Path) -> None:
    assert abandoned(tmp_path) is None
    forget(tmp_path)


class Answering:
    """A SuperNode's answer to an announcement, and whether it was noted by then."""

    def __init__(self, folder: Path, answer: object) -> None:
        self.folder, self.answer, self.noted = folder, answer, False

    def PushMessages(self, request: object) -> object:  # noqa: N802 - Flower's name
        self.noted = len(notes(self.folder)) == 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return (request, self.answer)

    def PushObject(self, request: object) -> object:  # noqa: N802 - Flower's name
        return request


def refusal(status: int) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError(
        "no", request=httpx.Request("POST", "http://x"), response=httpx.Response(status)
    )


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("taken", True),
        (refusal(401), False),  # the SuperNode started anew meanwhile: it knows no such task
        (httpx.ConnectError("nobody there"), False),
        (httpx.ReadTimeout("was it taken?"), True),
    ],
)
def test_it_is_noted_before_the_supernode_hears_of_it(
    tmp_path: Path, answer: Any, left: bool
) -> None:
    note, node = HalfSent(tmp_path), Answering(tmp_path, answer)
    client = NotedClient(node, note)
    if isinstance(answer, Exception):
        with pytest.raises(type(answer)):
            client.PushMessages("reply")
    else:
        assert client.PushMessages("reply") == ("reply", answer)
        assert client.PushObject("object") == "object"
    assert node.noted
    assert (len(notes(tmp_path)) == 1) == left
    assert abandoned(tmp_path) is None  # this process lives
    note.done()
    assert notes(tmp_path) == []


def test_an_answer_is_worth_more_than_its_note(tmp_path: Path) -> None:
    (tmp_path / "half-sent").write_text("in the way")

    class Node:
        def PushMessages(self, request: object) -> object:  # noqa: N802 - Flower's name
            return request

    note = HalfSent(tmp_path)
    assert NotedClient(Node(), note).PushMessages("reply") == "reply"
    note.done()
