"""The hospital's privacy ledger: what every release has cost its patients, for ever."""

from __future__ import annotations

import fcntl
import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from client.privacy.head_anchor import GENESIS, chain_digest, read_anchor, write_anchor
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.accounting import MechanismUse, epsilon

State = Literal["reserve", "commit", "seal"]

_COLUMNS = (
    "seq", "time", "state", "reservation", "run", "round", "plan", "noise_multiplier",
    "sampling_rate", "steps", "reply_sha256",
)  # fmt: skip
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('reserve', 'commit', 'seal')),
    reservation INTEGER NOT NULL,
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    plan TEXT NOT NULL,
    noise_multiplier REAL NOT NULL,
    sampling_rate REAL NOT NULL,
    steps INTEGER NOT NULL,
    reply_sha256 TEXT NOT NULL,
    digest TEXT NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""
_LOCK_WAIT_S = 60.0


@dataclass(frozen=True)
class LedgerEntry:
    """One reservation: which round of which plan used which mechanism, and how far it came.

    ``reserve``: charged, nothing released yet; ``commit``: trained; ``seal``: the reply with
    ``reply_sha256`` may leave. Every entry counts in full, whatever its state.
    """

    id: int
    time: str
    run_id: str
    round: int
    plan_digest: str
    use: MechanismUse
    state: State
    reply_sha256: str


class Ledger:
    """Append-only, hash-chained SQLite (WAL, synchronous FULL); safe under concurrent processes.

    Guarantee: the composition of all entries, over all runs and plans, bounds what any observer of
    everything that ever left this hospital learns about one patient (add-or-remove-one, all scans
    and visits). Assumes that every release was reserved first, that the same patient is not at
    another hospital, and that the file was not replaced by an older copy: ``<path>.head`` names a
    link that the chain must contain, so replacing the ledger alone is noticed (SMR-E303).

    A crash after :meth:`reserve` leaves the entry charged: the ledger can only count too much.

    Args:
        path: the SQLite file; made on first use.
        max_epsilon: the hospital's cap over everything in this ledger, at the delta of the plan
            that asks (the site policy bounds that delta).
    """

    def __init__(self, path: Path, max_epsilon: float = math.inf) -> None:
        self._path = path
        self._anchor = path.with_name(path.name + ".head")
        self._max_epsilon = max_epsilon
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite does not wait when two processes change the journal mode at once: they queue here.
        with path.with_name(path.name + ".lock").open("w") as queue:
            fcntl.flock(queue, fcntl.LOCK_EX)
            with self._connect() as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(_SCHEMA)
        self.verify()

    def reserve(
        self, run_id: str, round_number: int, plan: FederationPlan, use: MechanismUse
    ) -> int:
        """Charge one round before it touches a patient, and return the reservation's id.

        A round that was reserved and never sealed is charged again: what a crashed attempt released
        cannot be known here. Raises SMR-E302 when the plan's epsilon or the hospital's cap would be
        exceeded, SMR-E303 when the ledger was altered, and SMR-E306 when the round is sealed: its
        stored reply is to be sent again, at no cost.
        """
        with self._append() as connection:
            entries = _entries(connection)
            if any((e.run_id, e.round, e.state) == (run_id, round_number, "seal") for e in entries):
                raise SmrfedError(
                    "SMR-E306",
                    f"round {round_number} of run {run_id!r} was already answered",
                    remedy="send the stored reply again; to train anew, start another run",
                )
            delta = plan.privacy.delta
            same_plan = [e.use for e in entries if e.plan_digest == plan.digest]
            _refuse_overspend("the plan", same_plan, use, delta, plan.privacy.epsilon)
            all_uses = [e.use for e in entries]
            _refuse_overspend("the hospital", all_uses, use, delta, self._max_epsilon)
            reservation = _next_seq(connection)
            self._insert(
                connection, "reserve", reservation, run_id, round_number, plan.digest, use, ""
            )
        return reservation

    def commit(self, reservation: int) -> None:
        """Record that the training of a reservation has ended; raises SMR-E307 out of order."""
        self._advance(reservation, "reserve", "commit", "")

    def seal(self, reservation: int, reply_sha256: str) -> None:
        """Record the reply that may leave for a reservation; raises SMR-E307 out of order.

        To be called once the reply is stored, and before it is sent.
        """
        self._advance(reservation, "commit", "seal", reply_sha256)

    def spent(self, delta: float, plan_digest: str | None = None) -> float:
        """Epsilon of all entries at ``delta``, or of those under one plan."""
        uses = [e.use for e in self.entries() if plan_digest in (None, e.plan_digest)]
        return epsilon(uses, delta)

    def entries(self) -> tuple[LedgerEntry, ...]:
        """All reservations in order, each with its latest state."""
        with self._connect() as connection:
            return _entries(connection)

    def verify(self) -> int:
        """Recompute the hash chain and return its length; raises SMR-E303 where it is broken."""
        with self._connect() as connection:
            return self._verify(connection)

    def _verify(self, connection: sqlite3.Connection) -> int:
        anchor = read_anchor(self._anchor)
        previous, anchored = GENESIS, anchor is None
        count = 0
        query = f"SELECT {', '.join(_COLUMNS)}, digest FROM events ORDER BY seq"
        for count, (*values, digest) in enumerate(connection.execute(query), start=1):
            content = dict(zip(_COLUMNS, values, strict=True))
            if content["seq"] != count or chain_digest(previous, content) != digest:
                raise self._altered(f"event {count} does not continue the chain")
            previous = digest
            anchored = anchored or (count, digest) == anchor
        if not anchored:
            raise self._altered(
                f"{count} events; the one that {self._anchor.name} names is missing"
            )
        return count

    def _altered(self, found: str) -> SmrfedError:
        return SmrfedError(
            "SMR-E303",
            f"the privacy ledger {self._path} was altered or replaced by an older copy",
            expected="an unbroken hash chain up to its anchor",
            found=found,
            remedy="restore the newest copy of the ledger together with its .head file; without "
            "one, treat these patients' budget as spent",
        )

    def _unusable(self, error: Exception) -> SmrfedError:
        return SmrfedError(
            "SMR-E309",
            f"the privacy ledger {self._path} cannot be used",
            found=f"{type(error).__name__}: {error}",
            remedy="check disk space, permissions and that no other program holds the file; "
            "nothing is released until the ledger can be written",
        )

    def _advance(self, reservation: int, before: State, after: State, reply_sha256: str) -> None:
        with self._append() as connection:
            entry = next((e for e in _entries(connection) if e.id == reservation), None)
            if entry is None or entry.state != before:
                raise SmrfedError(
                    "SMR-E307",
                    f"reservation {reservation} cannot go to state '{after}'",
                    expected=f"state '{before}'",
                    found=f"state '{entry.state}'" if entry else "no such reservation",
                    remedy="reserve the round again; the earlier reservation stays charged",
                )
            self._insert(
                connection, after, reservation, entry.run_id, entry.round, entry.plan_digest,
                entry.use, reply_sha256,
            )  # fmt: skip

    def _insert(
        self,
        connection: sqlite3.Connection,
        state: State,
        reservation: int,
        run_id: str,
        round_number: int,
        plan_digest: str,
        use: MechanismUse,
        reply_sha256: str,
    ) -> None:
        last = connection.execute("SELECT digest FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        values = (
            _next_seq(connection), datetime.now(UTC).isoformat(timespec="milliseconds"), state,
            reservation, run_id, round_number, plan_digest, float(use.noise_multiplier),
            float(use.sampling_rate), use.steps, reply_sha256,
        )  # fmt: skip
        content = dict(zip(_COLUMNS, values, strict=True))
        digest = chain_digest(last[0] if last else GENESIS, content)
        marks = ", ".join("?" * (len(_COLUMNS) + 1))
        connection.execute(f"INSERT INTO events VALUES ({marks})", (*values, digest))

    @contextmanager
    def _append(self) -> Iterator[sqlite3.Connection]:
        """A write transaction on a verified ledger; the anchor follows once it is durable."""
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._verify(connection)
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
            query = "SELECT seq, digest FROM events ORDER BY seq DESC LIMIT 1"
            write_anchor(self._anchor, *connection.execute(query).fetchone())

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self._path, timeout=_LOCK_WAIT_S, isolation_level=None)
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error
        try:
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error
        finally:
            connection.close()


def _refuse_overspend(
    whose: str, uses: Sequence[MechanismUse], more: MechanismUse, delta: float, cap: float
) -> None:
    if cap == math.inf:
        return
    after = epsilon([*uses, more], delta)
    if after > cap:
        raise SmrfedError(
            "SMR-E302",
            f"this round would exceed the privacy budget of {whose} by {after - cap:.4g}",
            expected=f"epsilon <= {cap:.6g} at delta {delta:g}",
            found=f"{epsilon(uses, delta):.6g} spent, {after:.6g} after this round",
            remedy="end the run with the last released model; a larger budget is a decision of the "
            "hospital, made in its policy and in a new plan",
        )


def _next_seq(connection: sqlite3.Connection) -> int:
    last: int = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
    return last + 1


def _entries(connection: sqlite3.Connection) -> tuple[LedgerEntry, ...]:
    out: dict[int, LedgerEntry] = {}
    query = f"SELECT {', '.join(_COLUMNS)} FROM events ORDER BY seq"
    for (
        _,
        time,
        state,
        reservation,
        run,
        number,
        plan,
        noise,
        rate,
        steps,
        reply,
    ) in connection.execute(query):
        first = out.get(reservation)
        out[reservation] = LedgerEntry(
            id=reservation,
            time=first.time if first else time,
            run_id=run,
            round=number,
            plan_digest=plan,
            use=MechanismUse(noise, rate, steps),
            state=state,
            reply_sha256=reply,
        )
    return tuple(out.values())
