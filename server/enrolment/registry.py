"""Sites, their keys, invitations and what became of them: one SQLite file, durable at every commit.

Of an invitation's secret only its digest is kept. Every change is in the history with its time.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from shared_model.errors import SmrfedError

State = Literal["invited", "enrolled", "revoked"]
_FORMAT = 1
_PATIENCE_S = 20.0

_SCHEMA = """
CREATE TABLE sites (
    name TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('invited', 'enrolled', 'revoked')),
    node_key TEXT, node_id TEXT, signing_key TEXT, former_signing_key TEXT,
    accepts_key TEXT, protocol_version INTEGER, changed_at TEXT NOT NULL);
CREATE TABLE invitations (
    secret_sha256 TEXT PRIMARY KEY, site TEXT NOT NULL, expires_at INTEGER NOT NULL,
    run TEXT, addendum TEXT, replaces INTEGER NOT NULL,
    node_key TEXT, signing_key TEXT, withdrawn INTEGER NOT NULL DEFAULT 0);
CREATE TABLE history (
    number INTEGER PRIMARY KEY, at TEXT NOT NULL, site TEXT NOT NULL, event TEXT NOT NULL,
    detail TEXT NOT NULL);
CREATE TABLE nonces (nonce TEXT PRIMARY KEY, until INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class Site:
    """A site as the registry knows it; keys are OpenSSH (node) and raw hexadecimal (signing)."""

    name: str
    state: State
    node_key: str | None
    node_id: str | None
    signing_key: str | None
    former_signing_key: str | None
    accepts_key: str | None
    protocol_version: int | None
    changed_at: str


@dataclass(frozen=True)
class Invitation:
    """An invitation; with keys once somebody used it."""

    secret_sha256: str
    site: str
    expires_at: int
    run: str | None
    addendum: str | None
    replaces: bool
    node_key: str | None
    signing_key: str | None
    withdrawn: bool

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return time.time() > self.expires_at

    @property
    def used(self) -> bool:
        """Whether keys were bound to it; it is good for these only from then on."""
        return self.node_key is not None


class Registry:
    """The registry of one coordinator; opened anew for each call, so threads may share it."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; raises SMR-E592."""
        self._path = path
        with self._transaction() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {_FORMAT}")
            elif version != _FORMAT:
                raise _unusable(path, f"format {version}: made by a newer smrfed")
        path.chmod(0o600)

    def site(self, name: str) -> Site | None:
        """One site."""
        return next((site for site in self.sites() if site.name == name), None)

    def sites(self) -> tuple[Site, ...]:
        """All sites by name."""
        with self._transaction() as db:
            return tuple(Site(**row) for row in db.execute("SELECT * FROM sites ORDER BY name"))

    def history(self, site: str | None = None) -> tuple[tuple[str, str, str, str], ...]:
        """Time, site, event and detail of every change, oldest first."""
        with self._transaction() as db:
            rows = db.execute("SELECT at, site, event, detail FROM history ORDER BY number")
            return tuple(tuple(row) for row in rows if site in (None, row["site"]))

    def invite(self, invitation: Invitation) -> None:
        """Keep an invitation; earlier ones for the same site that nobody used are withdrawn."""
        with self._transaction() as db:
            db.execute(
                "UPDATE invitations SET withdrawn = 1 WHERE site = ? AND node_key IS NULL",
                (invitation.site,),
            )
            db.execute(
                "INSERT INTO invitations (secret_sha256, site, expires_at, run, addendum, replaces)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    *(invitation.secret_sha256, invitation.site, invitation.expires_at),
                    *(invitation.run, invitation.addendum, int(invitation.replaces)),
                ),
            )
            db.execute(
                "INSERT INTO sites (name, state, changed_at) VALUES (?, 'invited', ?) "
                "ON CONFLICT (name) DO UPDATE SET state = CASE state WHEN 'enrolled' THEN state "
                "ELSE 'invited' END, changed_at = excluded.changed_at",
                (invitation.site, _now()),
            )
            _note(db, invitation.site, "invited", f"run {invitation.run or 'none'}")

    def invitation(self, secret_sha256: str) -> Invitation | None:
        """The invitation with this digest of a secret."""
        with self._transaction() as db:
            row = db.execute(
                "SELECT * FROM invitations WHERE secret_sha256 = ?", (secret_sha256,)
            ).fetchone()
        if row is None:
            return None
        fields = dict(row)
        fields |= {name: bool(fields[name]) for name in ("replaces", "withdrawn")}
        return Invitation(**fields)

    def open_invitations(self) -> int:
        """How many invitations could still be used."""
        with self._transaction() as db:
            (count,) = db.execute(
                "SELECT count(*) FROM invitations WHERE withdrawn = 0 AND expires_at > ?",
                (int(time.time()),),
            ).fetchone()
        return int(count)

    def bind(self, invitation: Invitation, node_key: str, signing_key: str) -> bool:
        """Bind an invitation to the keys that use it; false when others did before."""
        with self._transaction() as db:
            db.execute(
                "UPDATE invitations SET node_key = ?, signing_key = ? "
                "WHERE secret_sha256 = ? AND node_key IS NULL AND withdrawn = 0",
                (node_key, signing_key, invitation.secret_sha256),
            )
            bound = db.execute(
                "SELECT node_key, signing_key, withdrawn FROM invitations WHERE secret_sha256 = ?",
                (invitation.secret_sha256,),
            ).fetchone()
        return tuple(bound) == (node_key, signing_key, 0)

    def release(self, invitation: Invitation) -> None:
        """Take a binding back, because the keys could not be registered."""
        with self._transaction() as db:
            db.execute(
                "UPDATE invitations SET node_key = NULL, signing_key = NULL "
                "WHERE secret_sha256 = ?",
                (invitation.secret_sha256,),
            )

    def enrol(
        self,
        name: str,
        node_key: str,
        node_id: int,
        signing_key: str,
        protocol_version: int,
        *,
        by: Invitation | None = None,
        publish: Callable[[], None] = lambda: None,
    ) -> bool:
        """A site with its keys takes part from now on; said twice, it changes nothing.

        ``publish`` is called while nobody else can change the registry, so that a revocation comes
        before all of this or after it. False when the invitation was withdrawn meanwhile.
        """
        with self._transaction() as db:
            if by is not None and _is_withdrawn(db, by):
                return False
            publish()
            before = db.execute(
                "SELECT state, node_key, signing_key FROM sites WHERE name = ?", (name,)
            ).fetchone()
            if before is not None and tuple(before) == ("enrolled", node_key, signing_key):
                return True
            db.execute(
                "INSERT INTO sites (name, state, changed_at) VALUES (?, 'invited', ?) "
                "ON CONFLICT (name) DO NOTHING",
                (name, _now()),
            )
            db.execute(
                "UPDATE sites SET state = 'enrolled', node_key = ?, node_id = ?, signing_key = ?, "
                "former_signing_key = NULL, accepts_key = NULL, protocol_version = ?, "
                "changed_at = ? WHERE name = ?",
                (node_key, str(node_id), signing_key, protocol_version, _now(), name),
            )
            _note(db, name, "enrolled", f"signing key {signing_key[:16]}, node {node_id}")
        return True

    def change_node_key(self, name: str, node_key: str, node_id: int) -> bool:
        """Another node key for an enrolled site; false when it is not enrolled any more."""
        with self._transaction() as db:
            changed = db.execute(
                "UPDATE sites SET node_key = ?, node_id = ?, changed_at = ? "
                "WHERE name = ? AND state = 'enrolled'",
                (node_key, str(node_id), _now(), name),
            ).rowcount
            if changed:
                _withdraw(db, name)
                _note(db, name, "node key changed", f"node {node_id}")
        return bool(changed)

    def change_signing_key(
        self, name: str, old: str, new: str, publish: Callable[[], None] = lambda: None
    ) -> bool:
        """Another signing key for an enrolled site, in place of ``old`` only; may be said twice.

        ``publish`` as in :meth:`enrol`.
        """
        with self._transaction() as db:
            row = db.execute(
                "SELECT signing_key FROM sites WHERE name = ? AND state = 'enrolled'", (name,)
            ).fetchone()
            if row is None or row["signing_key"] not in (old, new):
                return False
            publish()
            if row["signing_key"] != new:
                db.execute(
                    "UPDATE sites SET former_signing_key = signing_key, signing_key = ?, "
                    "changed_at = ? WHERE name = ?",
                    (new, _now(), name),
                )
                _withdraw(db, name)
                _note(db, name, "signing key changed", f"{old[:16]} to {new[:16]}")
        return True

    def accepts(self, name: str, key: str) -> None:
        """A site trusts this coordinator key as the next one."""
        with self._transaction() as db:
            changed = db.execute(
                "UPDATE sites SET accepts_key = ? WHERE name = ? AND accepts_key IS NOT ?",
                (key, name, key),
            ).rowcount
            if changed:
                _note(db, name, "accepts coordinator key", key[:16])

    def revoke(self, name: str, reason: str, withdraw_key: Callable[[], None]) -> None:
        """A site takes part no more; its open invitations are withdrawn.

        ``withdraw_key`` is called while no join or rotation can publish the key again.
        """
        with self._transaction() as db:
            withdraw_key()
            db.execute(
                "UPDATE sites SET state = 'revoked', changed_at = ? WHERE name = ?",
                (_now(), name),
            )
            _withdraw(db, name)
            _note(db, name, "revoked", reason)

    def first_use(self, nonce: str, until: int) -> bool:
        """Whether this nonce was not seen before; remembered until the given time."""
        with self._transaction() as db:
            db.execute("DELETE FROM nonces WHERE until < ?", (int(time.time()),))
            return bool(
                db.execute(
                    "INSERT INTO nonces VALUES (?, ?) ON CONFLICT DO NOTHING", (nonce, until)
                ).rowcount
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction that waits for others; committed at the end, or not at all."""
        try:
            db = sqlite3.connect(self._path, timeout=_PATIENCE_S, isolation_level=None)
            try:
                db.row_factory = sqlite3.Row
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            finally:
                db.close()  # what was not committed is gone
        except sqlite3.Error as error:
            raise _unusable(self._path, f"{type(error).__name__}: {error}") from None


def _is_withdrawn(db: sqlite3.Connection, invitation: Invitation) -> bool:
    row = db.execute(
        "SELECT withdrawn FROM invitations WHERE secret_sha256 = ?", (invitation.secret_sha256,)
    ).fetchone()
    return row is None or bool(row["withdrawn"])


def _withdraw(db: sqlite3.Connection, site: str) -> None:
    """An old token must not bring old keys back."""
    db.execute("UPDATE invitations SET withdrawn = 1 WHERE site = ?", (site,))


def _note(db: sqlite3.Connection, site: str, event: str, detail: str) -> None:
    db.execute(
        "INSERT INTO history (at, site, event, detail) VALUES (?, ?, ?, ?)",
        (_now(), site, event, detail),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _unusable(path: Path, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E592",
        f"the registry of sites cannot be used: {path}",
        found=found,
        remedy="check the path, free space and permissions, or restore the file from a backup; "
        "smrfed-coordinator init makes a new one in an empty folder",
    )
