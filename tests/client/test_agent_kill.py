"""kill -9 of the agent's process at every step of a round, and what the next one makes of it."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from threading import Timer

import pytest
from agent_process import POINTS
from agent_site import build_hospital
from small_site import small_atlas, small_plan

from client.agent.replies import Question, ReplyStore
from client.agent.stub import AgentClient
from client.egress.receipts import Receipts
from client.privacy.ledger import Ledger
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import decode_arrays
from shared_model.protocol.sealed import Sealed

# How often a round is charged when the process dies right after this point.
CHARGES = {"claimed": 1, "reserved": 2, "trained": 2, "gated": 2, "saved": 1}


@contextmanager
def process(folder: Path, plan: Path, *kill: str) -> Iterator[subprocess.Popen[str]]:
    script = Path(__file__).with_name("agent_process.py")
    started = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(plan), *kill],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        yield started
    finally:
        started.kill()
        started.wait()
        assert started.stdout is not None
        started.stdout.close()


def test_a_kill_at_any_moment_never_loses_a_charge_nor_an_answer(
    tmp_path: Path, archive: Path
) -> None:
    plan = small_plan(
        training={"rounds": len(POINTS)}, privacy={"noise_multiplier": 20.0, "epsilon": 8.0}
    )
    hospital = build_hospital(tmp_path / "site", archive, plan)
    plan_file = tmp_path / "plan.json"
    plan_file.write_bytes(plan.canonical_json)
    arrays = SiteModel.build(plan, small_atlas()).shared_arrays()
    socket = hospital.config.socket
    answers: dict[int, Sealed | None] = {}
    for number, point in enumerate(POINTS, start=1):
        instruction = hospital.instruction(arrays, number)
        with process(hospital.folder, plan_file, point, str(number)) as agent:
            with AgentClient(socket) as client:
                # What the last process left unfinished is answered by this one.
                if number > 1:
                    earlier = hospital.instruction(arrays, number - 1)
                    answers[number - 1] = client.handle(earlier)
                    assert client.handle(earlier) == answers[number - 1]
                with pytest.raises(SmrfedError, match="SMR-E412"):
                    client.handle(instruction)
            agent.wait(timeout=30)
            assert agent.returncode == -signal.SIGKILL
        stored = [r.stem for r in hospital.state.replies.glob("run-1/*.reply")]
        assert (f"{number:07d}-train" in stored) == (point == "saved")
        question = Question("run-1", number, "train", instruction.digest.hex())
        answers[number] = ReplyStore(hospital.state.replies).find(question)
    last = len(POINTS)
    with process(hospital.folder, plan_file), AgentClient(socket) as client:
        assert client.handle(hospital.instruction(arrays, last)) == answers[last]
        assert client.status().round == last
    entries = Ledger(hospital.state.ledger).entries()
    for number, point in enumerate(POINTS, start=1):
        mine = [entry for entry in entries if entry.round == number]
        assert len(mine) == CHARGES[point], point
        assert mine[-1].state == "seal"
        answer = answers[number]
        assert answer is not None
        assert mine[-1].reply_sha256 == answer.digest.hex()
        assert set(decode_arrays(answer.body)) == set(arrays)
    released = [r.decision.body_sha256 for r in Receipts(hospital.state.receipts).read()]
    # Every reply that could leave has its receipt; a receipt without a reply is harmless.
    assert len(released) == len(POINTS) + 1
    assert not list(hospital.state.replies.glob("*/.*"))


@pytest.mark.slow
@pytest.mark.timeout(3600)  # fifty processes start
def test_twenty_five_kills_at_random_moments_of_a_round(tmp_path: Path, archive: Path) -> None:
    """The whole agent: ledger, training, gate, receipts, reply store and socket."""
    kills, random = 25, Random(0)
    plan = small_plan(
        training={"rounds": kills + 2, "local_steps": 4},
        privacy={"noise_multiplier": 60.0, "epsilon": 8.0},
    )
    hospital = build_hospital(tmp_path / "site", archive, plan)
    plan_file = tmp_path / "plan.json"
    plan_file.write_bytes(plan.canonical_json)
    arrays = SiteModel.build(plan, small_atlas()).shared_arrays()
    # A first round of a fresh process whose scans are prepared: the kills are spread over twice
    # its length.
    for number in (1, 2):
        with process(hospital.folder, plan_file), AgentClient(hospital.config.socket) as client:
            begin = time.monotonic()
            client.handle(hospital.instruction(arrays, number))
            length = time.monotonic() - begin
    known: dict[int, Sealed] = {}
    died_at_work = 0
    for number in range(3, kills + 3):
        instruction = hospital.instruction(arrays, number)
        with process(hospital.folder, plan_file) as agent:
            killer = Timer(random.uniform(0, 2 * length), agent.kill)
            killer.start()
            with AgentClient(hospital.config.socket) as client:
                try:
                    known[number] = client.handle(instruction)
                except SmrfedError as error:
                    if error.code != "SMR-E412":
                        raise
                    died_at_work += 1
            killer.join()
        stored = ReplyStore(hospital.state.replies).find(
            Question("run-1", number, "train", instruction.digest.hex())
        )
        if number in known:  # what was handed over is on the disk
            assert stored == known[number]
        with process(hospital.folder, plan_file), AgentClient(hospital.config.socket) as client:
            again = client.handle(instruction)
            assert client.handle(instruction) == again
        if stored is not None:  # what was stored is what is sent, trained and sealed once
            assert again == stored
        known[number] = again
    entries = Ledger(hospital.state.ledger).entries()
    for number in range(3, kills + 3):
        mine = [entry for entry in entries if entry.round == number]
        assert 1 <= len(mine) <= 2  # one charge for the victim at most
        assert [entry.state for entry in mine].count("seal") == 1
        assert mine[-1].reply_sha256 == known[number].digest.hex()
    left = {receipt.decision.body_sha256 for receipt in Receipts(hospital.state.receipts).read()}
    assert {hashlib.sha256(reply.body).hexdigest() for reply in known.values()} <= left
    assert not list(hospital.state.replies.glob("*/.*"))
    assert 0 < died_at_work < kills  # kills at work, and kills of an idle agent
