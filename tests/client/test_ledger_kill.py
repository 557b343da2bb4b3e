"""kill -9 at 200 random times: no charge and no answer is ever lost, nothing is answered twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from client.agent.replies import Question, ReplyStore
from client.privacy.ledger import Ledger
from shared_model.privacy.accounting import MechanismUse, epsilon

NURSERY = Path(__file__).with_name("ledger_nursery.py")


def test_kills_at_random_leave_every_training_charged_and_every_answer_the_same(
    tmp_path: Path,
) -> None:
    killed_at_random(tmp_path, 10, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_two_hundred_kills(tmp_path: Path, seed: int) -> None:
    killed_at_random(tmp_path, 50, seed)


def killed_at_random(tmp_path: Path, kills: int, seed: int) -> None:
    run = subprocess.run(
        [sys.executable, str(NURSERY), str(tmp_path), str(kills), str(seed)],
        capture_output=True,
        text=True,
        check=False,
    )
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    failed = [note for note in notes if note[0] == "failed"]
    assert run.returncode == 0, run.stderr[-2000:]
    assert not failed
    reports = [json.loads(line) for line in run.stdout.splitlines()]
    rounds = len(reports)
    assert [report["round"] for report in reports] == list(range(1, rounds + 1))
    assert sum(report["died"] for report in reports) == kills
    trained = Counter((run, int(number)) for word, run, number, *_ in notes if word == "trained")
    sent = defaultdict(set)
    for word, run_id, number, *digest in notes:
        if word == "sent":
            sent[run_id, int(number)] |= set(digest)
    spent = [report["spent"] for report in reports]
    assert spent == sorted(spent)
    for report in reports:
        number = report["round"]
        assert report["codes"] == [0, 0, 0]
        # Never an under-count: a training has its charge. Not charged without end either: one
        # charge for the victim, one for the attempt that was answered.
        assert trained["one", number] <= report["charges"] <= 2
        # Never a second answer: one sealed reservation, one reply, whoever asked and when.
        (sealed,) = report["sealed"]
        assert sent["one", number] == {sealed}
        assert trained["two", number] == len(sent["two", number]) == 1
    ledger = Ledger(tmp_path / "ledger.sqlite")
    charged = Counter((entry.run_id, entry.round) for entry in ledger.entries())
    assert all(charged[key] >= count for key, count in trained.items())
    # Everybody's epsilon is that of the trainings at least: sub-9 was in every round of run two.
    own = ledger.spent(1e-5, patients=["sub-9"])
    assert own == epsilon([MechanismUse(20.0, 1.0, rounds)], 1e-5)
    store = ReplyStore(tmp_path / "one")
    stored = store.find(Question("one", rounds, "train", f"{rounds:064x}"))
    assert stored is not None
    assert {stored.digest.hex()} == sent["one", rounds]
