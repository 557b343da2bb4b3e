"""Damaged, replaced and unwritable ledgers: refused with a number, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_plan_only import small_budget_plan

from client.privacy.ledger import Ledger
from shared_model.errors import SmrfedError
from shared_model.privacy.accounting import MechanismUse

USE = MechanismUse(20.0, 1.0, 1)
PLAN = small_budget_plan(20.0, epsilon_cap=500.0)
NAME = "ledger.sqlite"


def charge(folder: Path, number: int, *patients: str) -> None:
    ledger = Ledger(folder / NAME)
    reservation = ledger.reserve("run", number, PLAN, USE, patients=patients or ("a", "b"))
    ledger.commit(reservation)
    ledger.seal(reservation, "ab" * 32)


def refused(folder: Path, code: str) -> None:
    """By whatever opens the ledger."""
    for attempt in (lambda: Ledger(folder / NAME), lambda: charge(folder, 99)):
        with pytest.raises(SmrfedError) as error:
            attempt()
        assert error.value.code == code


def execute(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / NAME)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


MEMBERS = ("DROP TRIGGER no_update_members", "DROP TRIGGER no_delete_members")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM members WHERE patient IN (SELECT patient FROM members LIMIT 1)",
        "UPDATE members SET patient = x'00112233445566778899aabbccddeeff' WHERE patient IN "
        "(SELECT patient FROM members LIMIT 1)",
        "INSERT INTO members SELECT cohort, x'00112233445566778899aabbccddeeff' FROM members "
        "LIMIT 1",
        "INSERT INTO members VALUES ('another', x'00')",
        "DELETE FROM members",
    ],
)
def test_a_changed_cohort_is_found(tmp_path: Path, statement: str) -> None:
    charge(tmp_path, 1)
    execute(tmp_path, *MEMBERS, statement)
    refused(tmp_path, "SMR-E303")


@pytest.mark.parametrize("statement", ["UPDATE members SET cohort = 'x'", "DELETE FROM members"])
def test_the_database_itself_keeps_the_members(tmp_path: Path, statement: str) -> None:
    charge(tmp_path, 1)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        execute(tmp_path, statement)


def snapshot(folder: Path, copy: Path) -> None:
    """A copy of the whole file with what is in its log, as a backup program makes it."""
    copy.mkdir()
    source, target = sqlite3.connect(folder / NAME), sqlite3.connect(copy / NAME)
    source.backup(target)
    source.close()
    target.close()
    for ending in (".head", ".key"):
        shutil.copy(folder / (NAME + ending), copy / (NAME + ending))


def put_back(copy: Path, folder: Path, *endings: str) -> None:
    for log in ("-wal", "-shm"):
        (folder / (NAME + log)).unlink(missing_ok=True)
    for ending in endings:
        shutil.copy(copy / (NAME + ending), folder / (NAME + ending))


def remove(folder: Path, *endings: str) -> None:
    for ending in endings:
        (folder / (NAME + ending)).unlink()


DAMAGE: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "the ledger of last week": (lambda f, c: put_back(c, f, ""), "SMR-E303"),
    "the ledger removed": (lambda f, c: remove(f, ""), "SMR-E303"),
    "the anchor removed": (lambda f, c: remove(f, ".head"), "SMR-E303"),
    "the ledger of last week, no anchor": (
        lambda f, c: (put_back(c, f, ""), remove(f, ".head"))[0],
        "SMR-E303",
    ),
    "an empty anchor": (lambda f, c: (f / (NAME + ".head")).write_text("") and None, "SMR-E303"),
    "the key removed": (lambda f, c: remove(f, ".key"), "SMR-E350"),
    "another key": (lambda f, c: (f / (NAME + ".key")).write_bytes(b"x" * 32) and None, "SMR-E350"),
    "half a key": (lambda f, c: (f / (NAME + ".key")).write_bytes(b"x" * 16) and None, "SMR-E350"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_a_backup_or_a_hand_may_do_to_the_files_is_found(tmp_path: Path, damage: str) -> None:
    folder, copy = tmp_path / "state", tmp_path / "copy"
    charge(folder, 1)
    snapshot(folder, copy)
    charge(folder, 2, "a", "c")
    action, code = DAMAGE[damage]
    action(folder, copy)
    refused(folder, code)


def test_a_lost_write_ahead_log_is_found(tmp_path: Path) -> None:
    charge(tmp_path, 1)
    keeper = sqlite3.connect(tmp_path / NAME)
    keeper.execute("SELECT count(*) FROM events").fetchone()
    # While somebody has it open, the newest charges are in the log alone.
    charge(tmp_path, 2)
    lost = tmp_path / "lost"
    lost.mkdir()
    for ending in ("", ".head", ".key"):
        shutil.copy(tmp_path / (NAME + ending), lost / (NAME + ending))
    keeper.close()
    refused(lost, "SMR-E303")


def test_the_newest_files_put_back_together_go_on(tmp_path: Path) -> None:
    folder, copy = tmp_path / "state", tmp_path / "copy"
    charge(folder, 1)
    charge(folder, 2)
    snapshot(folder, copy)
    spent = Ledger(folder / NAME).spent(1e-5)
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    assert Ledger(folder / NAME).spent(1e-5) == spent
    charge(folder, 3)


@pytest.mark.parametrize("version", [1, 99])
def test_another_format_is_refused(tmp_path: Path, version: int) -> None:
    charge(tmp_path, 1)
    execute(tmp_path, f"PRAGMA user_version = {version}")
    refused(tmp_path, "SMR-E351")


def test_the_ledger_of_an_older_smrfed_is_refused_by_its_format(tmp_path: Path) -> None:
    execute(tmp_path, "CREATE TABLE events (seq INTEGER PRIMARY KEY, time TEXT NOT NULL)")
    refused(tmp_path, "SMR-E351")


def test_pages_of_garbage_are_refused(tmp_path: Path) -> None:
    for number in range(1, 8):
        charge(tmp_path, number)
    path = tmp_path / NAME
    content = bytearray(path.read_bytes())
    content[4096 : 3 * 4096] = os.urandom(2 * 4096)
    path.write_bytes(bytes(content))
    with pytest.raises(SmrfedError, match=r"SMR-E30[39]"):
        Ledger(path)


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_ledger_damage import charge, NAME
from client.privacy.ledger import Ledger
from shared_model.errors import SmrfedError
folder = Path({folder!r})
limit = {limit}
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
done = 0
try:
    for number in range({first}, {first} + 400):
        charge(folder, number, *(f"{{number}}-{{i}}" for i in range(40)))
        done = number
except SmrfedError as error:
    print(error.code, done)
"""


@pytest.mark.parametrize("limit", [0, 2_000, 40_000, 90_000])
def test_a_full_disk_refuses_with_a_number_and_loses_nothing(tmp_path: Path, limit: int) -> None:
    """No file may grow beyond ``limit`` bytes: what a full disk is to SQLite, at other places."""
    charge(tmp_path, 1)
    script = FULL.format(
        tests=str(Path(__file__).parent), folder=str(tmp_path), limit=limit, first=2
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    code, last = done.stdout.split()
    assert code == "SMR-E309"
    entries = Ledger(tmp_path / NAME).entries()
    sealed = [entry.round for entry in entries if entry.state == "seal"]
    # Everything that was said to be charged is; the one that failed may be, never the other way.
    assert set(range(1, int(last) + 1)) <= set(sealed)
    assert len(entries) <= max(int(last), 1) + 1
    charge(tmp_path, 1000)
    assert not list(tmp_path.glob("*.tmp"))


def in_own_mounts(mount: str, script: str) -> str:
    """The output of a script in a mount namespace of its own, after a mount there."""
    command = ["unshare", "--mount", "sh", "-c", f'{mount} || exit 77; exec "$@"', "sh"]
    try:
        done = subprocess.run(
            [*command, sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode == 77 or done.stderr.startswith("unshare"):
        pytest.skip(f"no mounts of its own here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


NO_SPACE = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_ledger_damage import charge, NAME
from client.privacy.ledger import Ledger
from shared_model.errors import SmrfedError
folder = Path({folder!r})
charge(folder, 1)
filler = (folder / "filler").open("wb", buffering=0)
try:
    while filler.write(bytes(4096)):
        pass
except OSError as error:
    print(error.errno)
for number in (2, 3):
    try:
        charge(folder, number)
    except SmrfedError as error:
        print(error.code)
filler.close()
(folder / "filler").unlink()
print([entry.round for entry in Ledger(folder / NAME).entries()][:1])
charge(folder, 4)
print(Ledger(folder / NAME).entries()[-1].state)
"""


def test_a_disk_that_is_really_full_refuses_with_a_number_and_goes_on_later(tmp_path: Path) -> None:
    """A file system of its own, 400 KiB in memory, filled to the last block."""
    script = NO_SPACE.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    told = in_own_mounts(f'mount -t tmpfs -o size=400k none "{tmp_path}"', script)
    assert told.split() == ["28", "SMR-E309", "SMR-E309", "[1]", "seal"]


READ_ONLY = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_ledger_damage import charge, NAME
from shared_model.errors import SmrfedError
try:
    charge(Path({folder!r}), 2)
except SmrfedError as error:
    print(error.code)
"""


def test_a_read_only_disk_refuses_with_a_number_and_loses_nothing(tmp_path: Path) -> None:
    """A real read-only mount, in a mount namespace of the child's own."""
    state = tmp_path / "state"
    charge(state, 1)
    before = {path.name: path.read_bytes() for path in state.iterdir()}
    script = READ_ONLY.format(tests=str(Path(__file__).parent), folder=str(state))
    mount = f'mount --bind "{state}" "{state}" && mount -o remount,ro,bind "{state}"'
    assert in_own_mounts(mount, script).split() == ["SMR-E309"]
    assert {path.name: path.read_bytes() for path in state.iterdir()} == before
    charge(state, 2)
    assert Ledger(state / NAME).verify() == 6
