"""The ledger's SQLite file: append-only, hash-chained with its cohorts, never silently older."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client.privacy.patient_key import PatientKey, cohort_digest, key_lost
from shared_model.chain.links import (
    GENESIS,
    chain_digest,
    owner_only,
    read_anchor,
    write_anchor,
)
from shared_model.errors import SmrfedError

#: Written to SQLite's ``user_version``; another number is another format (SMR-E351).
FORMAT = 2

_COLUMNS = (
    "seq", "time", "state", "reservation", "run", "round", "purpose", "plan", "noise_multiplier",
    "sampling_rate", "steps", "cohort", "patients", "key_check", "reply_sha256",
)  # fmt: skip
_SCHEMA = (
    """
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        time TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('reserve', 'commit', 'seal')),
        reservation INTEGER NOT NULL,
        run TEXT NOT NULL,
        round INTEGER NOT NULL,
        purpose TEXT NOT NULL,
        plan TEXT NOT NULL,
        noise_multiplier REAL NOT NULL,
        sampling_rate REAL NOT NULL,
        steps INTEGER NOT NULL,
        cohort TEXT NOT NULL,
        patients INTEGER NOT NULL,
        key_check TEXT NOT NULL,
        reply_sha256 TEXT NOT NULL,
        digest TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE members (
        cohort TEXT NOT NULL,
        patient BLOB NOT NULL,
        PRIMARY KEY (cohort, patient)
    ) STRICT, WITHOUT ROWID
    """,
    *(
        f"""
        CREATE TRIGGER no_{change}_{table} BEFORE {change.upper()} ON {table}
            BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END
        """
        for table in ("events", "members")
        for change in ("update", "delete")
    ),
    f"PRAGMA user_version = {FORMAT}",
)
_LOCK_WAIT_S = 60.0


#: Called with the values of every event, in order. What it gathered counts only once the reading
#: has ended: the anchor and the cohorts are compared last.
Take = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Book:
    """Where the chain ends, and the patients of every cohort that it names.

    ``key_check``: of the newest event, none before the first.
    """

    number: int
    digest: str
    key_check: str | None
    cohorts: Mapping[str, frozenset[bytes]]


class LedgerFile:
    """Reads and appends events, verified; SQLite in WAL mode with synchronous FULL.

    Every event's digest covers the one before and all its values, the digest of its cohort among
    them; the members of a cohort must give that digest. ``<path>.head`` names an event that must be
    there: it is written before the first event, so a missing one is noticed as well. Events are
    handed over one by one and forgotten: memory does not grow with the years.

    Raises SMR-E303 (altered, or older than its anchor), SMR-E309 (cannot be read or written),
    SMR-E350 (the patients' key) and SMR-E351 (another format).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._anchor = path.with_name(path.name + ".head")
        self._key_path = path.with_name(path.name + ".key")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # SQLite does not wait when two processes change the journal mode at once: they queue.
            with open(path.with_name(path.name + ".lock"), "w", opener=owner_only) as queue:
                fcntl.flock(queue, fcntl.LOCK_EX)
                _make_private(path)
                with self._connect() as connection:
                    self._create(connection)
                newest = self.read()
                self.key = PatientKey.load(self._key_path, create=not newest.number)
        except OSError as error:
            raise self._unusable(error) from error
        if newest.number and newest.key_check != self.key.check:
            raise key_lost(self._key_path, f"key {self.key.check}")

    def read(self, *takers: Take) -> Book:
        """Everything, with the chain and the cohorts verified; ``takers`` see every event."""
        with self._connect() as connection:
            # One snapshot: another process may append between two statements.
            connection.execute("BEGIN")
            return self._verified(connection, takers)

    def contains(self, number: int, digest: str) -> bool:
        """Whether event ``number`` has this digest."""
        found = (number, digest) == (0, GENESIS)

        def look(event: Mapping[str, Any]) -> None:
            nonlocal found
            found = found or (event["seq"], event["digest"]) == (number, digest)

        self.read(look)
        return found

    @contextmanager
    def append(self, *takers: Take) -> Iterator[tuple[Book, Appender]]:
        """A write transaction on a verified ledger; the anchor follows once it is durable.

        ``takers`` have seen every event when it begins.
        """
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                book = self._verified(connection, takers)
                appender = Appender(connection, book, self.key)
                yield book, appender
            except BaseException:
                # A full disk may have ended the transaction already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
            self._write_anchor(appender.last_seq, appender.last_digest)

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if (tables, version) == (0, 0):
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("COMMIT")
        elif version != FORMAT:
            raise SmrfedError(
                "SMR-E351",
                f"the privacy ledger {self.path} has another format",
                expected=f"format {FORMAT}",
                found=f"format {version}",
                remedy="use the smrfed version that wrote it; what it says was spent stays spent",
            )
        (events,) = connection.execute("SELECT count(*) FROM events").fetchone()
        if not events and read_anchor(self._anchor) is None:
            self._write_anchor(0, GENESIS)
            # A power failure must not leave events without the anchor that they need.
            _sync_folder(self.path.parent)

    def _write_anchor(self, number: int, digest: str) -> None:
        try:
            write_anchor(self._anchor, number, digest)
        except OSError as error:
            raise self._unusable(error) from error

    def _verified(self, connection: sqlite3.Connection, takers: Sequence[Take]) -> Book:
        # Before the events: another process may add some and move the anchor in between.
        anchor = read_anchor(self._anchor)
        number, previous, anchored = 0, GENESIS, anchor == (0, GENESIS)
        key_check: str | None = None
        named: set[str] = set()
        query = f"SELECT {', '.join(_COLUMNS)}, digest FROM events ORDER BY seq"
        for number, (*values, digest) in enumerate(connection.execute(query), start=1):
            content = dict(zip(_COLUMNS, values, strict=True))
            if content["seq"] != number or chain_digest(previous, content) != digest:
                raise self._altered(f"event {number} does not continue the chain")
            previous = digest
            anchored = anchored or (number, digest) == anchor
            key_check = content["key_check"]
            named.add(content["cohort"])
            content["digest"] = digest
            for take in takers:
                take(content)
        if not anchored:
            missing = f"the one that {self._anchor.name} names is missing"
            lost = f"{self._anchor.name} is missing" if anchor is None else missing
            raise self._altered(f"{number} events; {lost}")
        return Book(number, previous, key_check, self._verified_cohorts(connection, named))

    def _verified_cohorts(
        self, connection: sqlite3.Connection, named: set[str]
    ) -> dict[str, frozenset[bytes]]:
        members: dict[str, set[bytes]] = {}
        for cohort, patient in connection.execute("SELECT cohort, patient FROM members"):
            members.setdefault(cohort, set()).add(patient)
        if named != set(members) or any(cohort_digest(m) != c for c, m in members.items()):
            raise self._altered("the members of a cohort are not those that the chain names")
        return {cohort: frozenset(patients) for cohort, patients in members.items()}

    def _altered(self, found: str) -> SmrfedError:
        return SmrfedError(
            "SMR-E303",
            f"the privacy ledger {self.path} was altered or replaced by an older copy",
            expected="an unbroken hash chain up to its anchor, and the cohorts that it names",
            found=found,
            remedy="restore the newest copy of the ledger together with its .head and .key files; "
            "without one, treat these patients' budget as spent",
        )

    def _unusable(self, error: Exception) -> SmrfedError:
        return SmrfedError(
            "SMR-E309",
            f"the privacy ledger {self.path} cannot be used",
            found=f"{type(error).__name__}: {error}",
            remedy="check disk space, permissions and that no other program holds the file; "
            "nothing is released until the ledger can be written",
        )

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self.path, timeout=_LOCK_WAIT_S, isolation_level=None)
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error
        try:
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._unusable(error) from error
        finally:
            connection.close()


class Appender:
    """Adds events, and the cohorts that they name, inside one transaction."""

    def __init__(self, connection: sqlite3.Connection, book: Book, key: PatientKey) -> None:
        self._connection = connection
        self._key = key
        self._known = set(book.cohorts)
        self.last_seq = book.number
        self.last_digest = book.digest

    def cohort(self, patients: frozenset[bytes]) -> str:
        """The digest of a cohort; its members are stored when the ledger does not hold them."""
        digest = cohort_digest(patients)
        if digest not in self._known:
            self._connection.executemany(
                "INSERT INTO members VALUES (?, ?)", [(digest, patient) for patient in patients]
            )
            self._known.add(digest)
        return digest

    def event(self, **values: Any) -> int:
        """Append an event; ``values`` are all columns but seq, time and key_check. Returns seq."""
        seq = self.last_seq + 1
        values |= {
            "seq": seq,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "key_check": self._key.check,
        }
        content = {name: values[name] for name in _COLUMNS}
        digest = chain_digest(self.last_digest, content)
        marks = ", ".join("?" * (len(_COLUMNS) + 1))
        row = (*content.values(), digest)
        self._connection.execute(f"INSERT INTO events VALUES ({marks})", row)
        self.last_seq, self.last_digest = seq, digest
        return seq


def _make_private(path: Path) -> None:
    """Make the file for the owner alone: it tells how many patients there are.

    SQLite gives its other files the same mode. A file that exists is not opened: closing it would
    drop the locks that this process holds through SQLite.
    """
    with suppress(FileExistsError):
        os.close(owner_only(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
