"""The registry of sites as the dashboard reads it: never made, never locked, never changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared_model.protocol.keys import fingerprint


@dataclass(frozen=True)
class RegisteredSite:
    """One site: ``invited``, ``enrolled`` or ``revoked``, since when, with which signing key."""

    name: str
    state: str
    changed_at: str
    fingerprint: str | None
    protocol_version: int | None


def registered_sites(path: Path) -> tuple[tuple[RegisteredSite, ...], str | None]:
    """All sites of the registry by name, and why it could not be read."""
    if not path.exists():
        return (), "there is no registry in this folder (smrfed-coordinator init makes it)"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            db.execute("PRAGMA query_only = ON")
            rows = db.execute(
                "SELECT name, state, changed_at, signing_key, protocol_version FROM sites "
                "ORDER BY name"
            ).fetchall()
    except sqlite3.Error as error:
        return (), f"the registry cannot be read now: {error}"
    return tuple(
        RegisteredSite(str(name), str(state), str(at), _fingerprint(key), version)
        for name, state, at, key, version in rows
    ), None


def _fingerprint(key: str | None) -> str | None:
    try:
        return fingerprint(Ed25519PublicKey.from_public_bytes(bytes.fromhex(key or "")))
    except ValueError:
        return None
