"""kill -9 of a hospital's agent before every write of every question of a secure sum."""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from masked_toys import HONEST, MaskedToys

from server.rounds.transport import Failure
from shared_model.protocol.messages import RoundInstruction
from shared_model.protocol.sealed import Sealed
from simulations.deployed.stand_in import StandIn

SITE = "a"
_WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def answer_or_die(folder: Path, message: Sealed, write: int) -> bytes | None:
    """The reply's digest of a process that dies before its ``write``-th write; none: it died."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        seen = 0

        def die(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event == "open":
                writes = isinstance(arguments[2], int) and arguments[2] & _WRITING
            else:
                writes = event in _WRITES
            if writes and str(arguments[0]).startswith(str(folder)):
                seen += 1
                if seen == write:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)
        try:
            os.write(write_end, StandIn(folder / "site.toml").handle(message).digest)
        finally:
            os._exit(0)
    os.close(write_end)
    digest = os.read(read_end, 64)
    os.close(read_end)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) == (digest == b"")
    return digest or None


@pytest.mark.parametrize("apart", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_an_agent_killed_before_any_write_masks_once_and_the_sum_stays_exact(
    tmp_path: Path, apart: int
) -> None:
    """``apart``: before every write, or every third one, the rounds beginning at others."""
    toys = MaskedToys(tmp_path / "f", sections={"training": {"rounds": 2}})
    folder = toys.folder / SITE
    deaths: dict[tuple[str, int], int] = {}

    def kill_at_every_write(
        site: str, header: RoundInstruction, message: Sealed
    ) -> Sealed | Failure | None:
        if site != SITE:
            return HONEST
        toys.kill(SITE)
        first = header.round if apart > 1 else 1
        writes = count(first, apart)
        while (digest := answer_or_die(folder, message, next(writes))) is None:
            deaths[header.kind, header.round] = deaths.get((header.kind, header.round), 0) + 1
        reply = toys.agent(SITE).handle(message)
        # What the process that lived long enough said is what every later one says.
        assert reply.digest == digest
        return reply

    result = toys.drive(kill_at_every_write)
    assert result.body == toys.expected()
    assert {kind for kind, _ in deaths} == {"keys", "shares", "train", "unmask", "finalise"}
    assert all(killed > 3 // apart for killed in deaths.values()), deaths
    agent = toys.agent(SITE)
    entries = agent.ledger.entries()
    for number in (1, 2):
        mine = [entry for entry in entries if (entry.purpose, entry.round) == ("train", number)]
        # A process that died after its charge is charged: never the other way round.
        assert [entry.state for entry in mine].count("seal") == 1
        assert 1 <= len(mine) <= deaths["train", number] + 1
    assert not (folder / "state" / "masks" / "toy-sums").exists()
    assert not list((folder / "state" / "replies").glob("*/.*"))
