"""A process that hangs without ending is killed and started again; one that answers is not."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from test_supervision import SLEEP, Running, spec, until

from client.liveness import agent_hangs, network_hangs
from shared_model.supervision import supervisor as supervisor_module
from shared_model.supervision.answering import Answering


def test_a_process_that_gives_no_answer_is_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quick(ask, clock):  # type: ignore[no-untyped-def]
        return Answering(ask, clock, every_s=0.05)

    monkeypatch.setattr(supervisor_module, "Answering", quick)
    stopped = threading.Event()
    hung = spec(tmp_path, "hung", SLEEP, answers=lambda: not stopped.is_set(), silent_s=1.0)
    well = spec(tmp_path, "well", SLEEP, answers=lambda: True, silent_s=1.0)
    with Running(tmp_path, hung, well) as running:
        until(lambda: all(state.state == "running" for state in running.supervisor.states))
        first, other = running.state("hung").pid, running.state("well").pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        stopped.set()
        until(lambda: running.state("hung").failures > 0)
        assert "gave no answer for" in running.state("hung").detail
        stopped.clear()
        until(lambda: running.state("hung").pid not in (None, first))
        assert running.state("well").pid == other
        assert running.state("well").starts == 1


def test_a_process_that_can_never_do_its_work_again_is_killed_at_once(tmp_path: Path) -> None:
    (tmp_path / "waits").touch()
    started: list[bool] = []

    def begin() -> None:
        started.append((tmp_path / "waits").exists())
        if len(started) == 1:
            (tmp_path / "waits").unlink()

    def why() -> str | None:
        return "waits for ever" if (tmp_path / "waits").exists() else None

    held = spec(tmp_path, "held", SLEEP, stuck=why, before_start=begin)
    with Running(tmp_path, held) as running:
        until(lambda: running.state("held").state == "running")
        first = running.state("held").pid
        (tmp_path / "waits").touch()
        until(lambda: running.state("held").failures == 1)
        assert running.state("held").detail.startswith("waits for ever, and was killed")
        (tmp_path / "waits").unlink()
        until(lambda: running.state("held").pid not in (None, first))
        assert running.state("held").failures == 1
    # What was there before the first start did not count against it.
    assert started == [True, False]


def test_a_question_that_hangs_itself_holds_nobody_up_and_is_no_answer() -> None:
    now = [0.0]
    never = threading.Event()
    answering = Answering(never.wait, lambda: now[0], every_s=1.0)
    for second in range(5):
        now[0] = float(second)
        assert answering.silent_s() == second
    never.set()


class Site:
    """What the questions need of site.toml."""

    def __init__(self, socket: Path, port: int) -> None:
        self.socket, self.node_port = socket, port


def test_who_is_not_there_does_not_hang_and_who_says_nothing_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket
    import tempfile

    monkeypatch.setattr("client.liveness._TIMEOUT_S", 1.0)
    with tempfile.TemporaryDirectory(prefix="smrfed-") as folder:
        path = Path(folder) / "agent.sock"
        with socket.socket() as node, socket.socket(socket.AF_UNIX) as agent:
            node.bind(("127.0.0.1", 0))
            site = Site(path, node.getsockname()[1])
            assert not network_hangs(site)  # type: ignore[arg-type]
            assert not agent_hangs(site)  # type: ignore[arg-type]
            node.listen(4)
            agent.bind(str(path))
            agent.listen(4)
            assert network_hangs(site)  # type: ignore[arg-type]
            assert agent_hangs(site)  # type: ignore[arg-type]
