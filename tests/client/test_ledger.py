"""The privacy ledger: budgets, crashes, concurrency and tampering, on real SQLite files."""

from __future__ import annotations

import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_plan_only import small_budget_plan

from client.egress.receipts import Decision, Receipts
from client.privacy.ledger import Ledger
from shared_model.errors import SmrfedError
from shared_model.privacy.accounting import MechanismUse, epsilon
from shared_model.privacy.plan_cost import release_use

USE = MechanismUse(4.0, 0.5, 1)
PATIENTS = ("sub-1", "sub-2", "sub-3")


def full_round(ledger: Ledger, run: str, number: int, noise: float = 4.0) -> int:
    plan = small_budget_plan(noise)
    reservation = ledger.reserve(run, number, plan, release_use(plan, "train"), patients=["p"])
    ledger.commit(reservation)
    ledger.seal(reservation, "ab" * 32)
    return reservation


def test_a_round_goes_from_reserve_to_commit_to_seal_and_counts_from_the_first(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    plan = small_budget_plan()
    assert ledger.spent(1e-5) == 0
    reservation = ledger.reserve("run", 1, plan, USE, patients=PATIENTS)
    assert ledger.spent(1e-5) == epsilon([USE], 1e-5) > 0
    states = [ledger.entries()[0].state]
    ledger.commit(reservation)
    states.append(ledger.entries()[0].state)
    ledger.seal(reservation, "cd" * 32)
    entry = ledger.entries()[0]
    assert [*states, entry.state] == ["reserve", "commit", "seal"]
    assert (entry.run_id, entry.round, entry.plan_digest) == ("run", 1, plan.digest)
    assert entry.reply_sha256 == "cd" * 32
    assert ledger.spent(1e-5) == epsilon([USE], 1e-5)
    assert ledger.verify() == 3


def test_out_of_order_states_are_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    reservation = ledger.reserve("run", 1, small_budget_plan(), USE, patients=PATIENTS)
    for call in (
        lambda: ledger.seal(reservation, "ab" * 32),
        lambda: ledger.commit(reservation + 1),
    ):
        with pytest.raises(SmrfedError, match="SMR-E307"):
            call()
    ledger.commit(reservation)
    with pytest.raises(SmrfedError, match="SMR-E307"):
        ledger.commit(reservation)


def test_a_sealed_round_is_never_trained_again_and_an_unsealed_one_is_charged_again(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    plan = small_budget_plan()
    ledger.reserve("run", 1, plan, USE, patients=PATIENTS)
    ledger.reserve("run", 1, plan, USE, patients=PATIENTS)
    twice = MechanismUse(USE.noise_multiplier, USE.sampling_rate, 2)
    assert ledger.spent(1e-5) == epsilon([twice], 1e-5)
    full_round(ledger, "run", 2)
    with pytest.raises(SmrfedError, match="SMR-E306"):
        ledger.reserve("run", 2, plan, USE, patients=PATIENTS)


def test_the_plans_epsilon_ends_its_runs_and_the_refusal_says_by_how_much(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    plan = small_budget_plan(epsilon_cap=1.0)
    number = 1
    while epsilon([MechanismUse(4.0, 0.5, number)], plan.privacy.delta) <= 1.0:
        ledger.reserve(f"run-{number % 2}", number, plan, USE, patients=PATIENTS)
        number += 1
    with pytest.raises(SmrfedError, match="SMR-E302") as refusal:
        ledger.reserve("run-2", number, plan, USE, patients=PATIENTS)
    allowed = epsilon([MechanismUse(4.0, 0.5, number - 1)], plan.privacy.delta)
    beyond = epsilon([MechanismUse(4.0, 0.5, number)], plan.privacy.delta)
    assert allowed <= 1.0 < beyond
    assert f"{beyond - 1.0:.4g}" in refusal.value.what
    assert "the plan" in refusal.value.what
    assert ledger.spent(plan.privacy.delta) == allowed


def test_the_hospitals_cap_composes_over_plans(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", max_epsilon=1.5)
    first, second = small_budget_plan(4.0), small_budget_plan(5.0)
    for number in range(1, 5):
        ledger.reserve("run", number, first, release_use(first, "train"), patients=PATIENTS)
    uses = [release_use(first, "train")] * 4
    while epsilon([*uses, release_use(second, "train")], 1e-5) <= 1.5:
        uses.append(release_use(second, "train"))
        ledger.reserve("other", len(uses), second, release_use(second, "train"), patients=PATIENTS)
    with pytest.raises(SmrfedError, match="of the hospital"):
        ledger.reserve("other", 99, second, release_use(second, "train"), patients=PATIENTS)
    assert uses == [entry.use for entry in ledger.entries()]
    assert {use.noise_multiplier for use in uses} == {4.0, 5.0}
    assert ledger.spent(1e-5) == epsilon(uses, 1e-5) <= 1.5
    assert epsilon([*uses, release_use(second, "train")], 1e-5) > 1.5
    assert ledger.spent(1e-5, first.digest) == epsilon(uses[:4], 1e-5)


def test_a_budget_is_used_up_to_its_last_bit_and_not_one_beyond(tmp_path: Path) -> None:
    two = epsilon([USE, USE], 1e-5)
    for number, (plan_cap, hospital_cap, fits) in enumerate(
        (
            (two, math.inf, True),
            (math.nextafter(two, 0), math.inf, False),
            (2 * two, two, True),
            (2 * two, math.nextafter(two, 0), False),
        )
    ):
        ledger = Ledger(tmp_path / f"{number}.sqlite", hospital_cap)
        plan = small_budget_plan(epsilon_cap=plan_cap)
        ledger.reserve("run", 1, plan, USE, patients=PATIENTS)
        if fits:
            ledger.reserve("run", 2, plan, USE, patients=PATIENTS)
        else:
            with pytest.raises(SmrfedError, match="SMR-E302"):
                ledger.reserve("run", 2, plan, USE, patients=PATIENTS)
        assert len(ledger.entries()) == 1 + fits


def test_a_mechanism_without_noise_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with pytest.raises(SmrfedError, match="SMR-E302"):
        ledger.reserve("run", 1, small_budget_plan(), MechanismUse(0.0, 0.5, 1), patients=PATIENTS)


def test_restarts_keep_the_spending(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    for number in range(1, 4):
        full_round(Ledger(path), "run", number)
    assert Ledger(path).spent(1e-5) == epsilon([MechanismUse(4.0, 0.5, 3)], 1e-5)
    assert Ledger(path).verify() == 9


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from small_plan_only import small_budget_plan
from shared_model.privacy.plan_cost import release_use
from client.privacy.ledger import Ledger
from shared_model.errors import SmrfedError
plan = small_budget_plan(epsilon_cap={cap})
ledger = Ledger(Path({path!r}))
"""
RACE = """
print("ready", flush=True)
sys.stdin.readline()
for number in range(1, 50):
    time.sleep(0.15)
    try:
        ledger.reserve({run!r}, number, plan, release_use(plan, "train"), patients=["p"])
    except SmrfedError as error:
        print(error.code); break
"""
CRASH = """
ledger.reserve("run", 1, plan, release_use(plan, "train"), patients=["p"])
print("reserved", flush=True)
time.sleep(60)
"""


def child(path: Path, script: str, cap: float = 8.0, **values: str) -> subprocess.Popen[str]:
    source = CHILD.format(tests=str(Path(__file__).parent), path=str(path), cap=cap)
    source += script.format(**values) if values else script
    return subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_two_processes_share_one_budget(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    racers = [child(path, RACE, cap=1.5, run=run) for run in ("one", "two")]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    assert [racer.communicate(timeout=120)[0].split() for racer in racers] == [["SMR-E302"]] * 2
    ledger = Ledger(path)
    uses = [entry.use for entry in ledger.entries()]
    assert epsilon(uses, 1e-5) <= 1.5 < epsilon([*uses, USE], 1e-5)
    assert {entry.run_id for entry in ledger.entries()} == {"one", "two"}
    assert len({entry.id for entry in ledger.entries()}) == len(uses) == ledger.verify()


def test_a_process_killed_after_the_reservation_has_spent_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    victim = child(path, CRASH)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "reserved\n"
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    ledger = Ledger(path)
    assert [entry.state for entry in ledger.entries()] == ["reserve"]
    once = ledger.spent(1e-5)
    full_round(ledger, "run", 1)
    assert ledger.spent(1e-5) > once > 0


def tamper(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER no_update_events")
    connection.execute("DROP TRIGGER no_delete_events")
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET noise_multiplier = 400 WHERE seq = 2",
        "UPDATE events SET round = 7 WHERE seq = 6",
        "UPDATE events SET reply_sha256 = 'x' WHERE seq = 3",
        "DELETE FROM events WHERE seq = 2",
        "DELETE FROM events WHERE seq >= 4",
        "DELETE FROM events",
    ],
)
def test_a_changed_or_missing_event_is_found_and_nothing_is_reserved(
    tmp_path: Path, statement: str
) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    full_round(ledger, "run", 1)
    full_round(ledger, "run", 2)
    tamper(path, statement)
    for call in (
        ledger.verify,
        lambda: Ledger(path),
        lambda: ledger.reserve("run", 3, small_budget_plan(), USE, patients=PATIENTS),
    ):
        with pytest.raises(SmrfedError, match="SMR-E303"):
            call()


def test_an_older_copy_of_the_ledger_is_found(tmp_path: Path) -> None:
    path, backup = tmp_path / "ledger.sqlite", tmp_path / "backup.sqlite"
    full_round(Ledger(path), "run", 1)
    source, target = sqlite3.connect(path), sqlite3.connect(backup)
    source.backup(target)
    source.close()
    target.close()
    full_round(Ledger(path), "run", 2)
    for leftover in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        (tmp_path / leftover).unlink(missing_ok=True)
    shutil.copy(backup, path)
    with pytest.raises(SmrfedError, match="SMR-E303"):
        Ledger(path)


@pytest.mark.parametrize("statement", ["UPDATE events SET round = 2", "DELETE FROM events"])
def test_the_database_itself_forbids_changes(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "ledger.sqlite"
    full_round(Ledger(path), "run", 1)
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database, but longer than a hundred bytes" * 5)
    with pytest.raises(SmrfedError, match="SMR-E309"):
        Ledger(path)
    assert path.read_bytes().startswith(b"not a database")


def test_all_its_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    """They tell how many patients there are, and others may be able to read the folder."""
    before = os.umask(0o022)
    try:
        ledger = Ledger(tmp_path / "ledger.sqlite")
        full_round(ledger, "run", 1)
        connection = sqlite3.connect(tmp_path / "ledger.sqlite")
        connection.execute("SELECT count(*) FROM events").fetchone()
        receipts = Receipts(tmp_path / "receipts.jsonl")
        receipts.append(
            Decision(
                released=True, rule="update", run_id="run", round=1, kind="train", mode="local",
                plan_digest="0" * 64, arrays=1, numbers=1, bytes=4, metrics=(),
                body_sha256="0" * 64, reply_sha256="0" * 64, epsilon_after=1.0,
            )
        )  # fmt: skip
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        connection.close()
    finally:
        os.umask(before)
    assert {"ledger.sqlite", "ledger.sqlite-wal", "receipts.jsonl"} < modes.keys()
    assert set(modes.values()) == {0o600}, modes


def test_the_ledger_is_in_wal_mode(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.sqlite")
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_ledger_policy_and_receipts_need_no_torch() -> None:
    script = (
        "import sys, client.privacy.ledger, client.egress.gate\n"
        "import shared_model.privacy.secure_random, shared_model.privacy.discrete_gaussian\n"
        "assert not {'torch', 'opacus', 'flwr'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["r1", "r2"]), st.integers(1, 3), st.sampled_from([4.0, 6.0])),
        max_size=8,
    )
)
def test_spending_never_decreases_and_is_the_composition_of_all_entries(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[str, int, float]]
) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    spent = [ledger.spent(1e-5)]
    for run, number, noise in calls:
        try:
            full_round(ledger, run, number, noise)
        except SmrfedError as error:
            assert error.code == "SMR-E306"  # noqa: PT017
        spent.append(ledger.spent(1e-5))
    assert spent == sorted(spent)
    assert spent[-1] == epsilon([entry.use for entry in ledger.entries()], 1e-5)
    assert len(ledger.entries()) == len({(run, number) for run, number, _ in calls})
