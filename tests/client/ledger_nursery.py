"""Forks small agents that only drive ledger and reply store, kills them, and tells what is left.

Run as ``python ledger_nursery.py FOLDER KILLS SEED``. For every kill, two children answer a round
of two runs on one ledger, as the site agent does: claim, reserve, train, commit, save, seal, send.
One of them is killed (SIGKILL) at a random statement that SQLite was given, or at a random moment;
the round is then asked again until it is answered. One line of JSON per kill.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from small_plan_only import small_budget_plan

from client.agent.replies import Question, ReplyStore
from client.privacy.ledger import Ledger
from shared_model.privacy.accounting import MechanismUse
from shared_model.protocol.sealed import SIGNATURE_BYTES, Sealed

PLAN = small_budget_plan(20.0, epsilon_cap=500.0)
USE = MechanismUse(20.0, 1.0, 1)
DELTA = PLAN.privacy.delta


def note(folder: Path, *words: object) -> None:
    """What happened, in one write that is whole or absent whatever is killed."""
    with (folder / "notes").open("ab", buffering=0) as file:
        file.write((" ".join(map(str, words)) + "\n").encode())


def answer(folder: Path, run: str, number: int, patients: list[str]) -> None:
    store, ledger = ReplyStore(folder / run), Ledger(folder / "ledger.sqlite", max_epsilon=500.0)
    question = Question(run, number, "train", f"{number:064x}")
    reply = store.find(question)
    if reply is None:
        store.claim(question)
        reservation = ledger.reserve(run, number, PLAN, USE, patients=patients)
        note(folder, "trained", run, number)
        ledger.commit(reservation)
        reply = Sealed(b"{}", os.urandom(64), bytes(SIGNATURE_BYTES))
        store.save(question, reply)
    mine = [e for e in ledger.entries() if (e.run_id, e.round) == (run, number)]
    if mine and mine[-1].state == "commit":
        ledger.seal(mine[-1].id, reply.digest.hex())
    note(folder, "sent", run, number, reply.digest.hex())


class Counting(sqlite3.Connection):
    """Counts the statements of this process, and dies before a chosen one."""

    given = 0
    fatal = 0

    def execute(self, *args: Any) -> Any:
        Counting.given += 1
        if Counting.given == Counting.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(*args)


def count_statements(fatal: int) -> None:
    Counting.given, Counting.fatal = 0, fatal
    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **options: connect(*args, factory=Counting, **options)  # type: ignore[assignment]


def child(folder: Path, *args: Any, fatal: int = 0) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            count_statements(fatal)
            answer(folder, *args)
            note(folder, "statements", *args[:2], Counting.given)
            status = 0
        except BaseException:
            note(folder, "failed", json.dumps(traceback.format_exc()[-1500:]))
        finally:
            os._exit(status)
    return pid


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    folder, kills, draw = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    folder.mkdir(parents=True, exist_ok=True)
    Ledger(folder / "ledger.sqlite").spent(DELTA)
    started = time.monotonic()
    assert ended(child(folder, "zero", 1, ["sub-1"])) == 0
    took = time.monotonic() - started
    statements = int((folder / "notes").read_text().split()[-1])
    deaths = number = 0
    # A kill that came too late was none: on until there were enough.
    while deaths < kills and number < 5 * kills:
        number += 1
        patients = [f"sub-{draw.randrange(8)}" for _ in range(draw.randint(1, 6))]
        by_statement = number % 2 == 0
        other = child(folder, "two", number, ["sub-7", "sub-9"])
        victim = child(
            folder, "one", number, patients,
            fatal=draw.randint(1, statements) if by_statement else 0,
        )  # fmt: skip
        if not by_statement:
            time.sleep(draw.uniform(0, took))
            os.kill(victim, signal.SIGKILL)
        died = ended(victim) == -signal.SIGKILL
        deaths += died
        # Asked again, and once more: the same answer, nothing charged.
        codes = [ended(other), *(ended(child(folder, "one", number, patients)) for _ in range(2))]
        ledger = Ledger(folder / "ledger.sqlite")
        entries = [e for e in ledger.entries() if (e.run_id, e.round) == ("one", number)]
        print(
            json.dumps(
                {
                    "round": number,
                    "died": died,
                    "codes": codes,
                    "charges": len(entries),
                    "sealed": [e.reply_sha256 for e in entries if e.state == "seal"],
                    "spent": ledger.spent(DELTA),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
