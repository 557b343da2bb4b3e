"""Who a release touched, as the ledger may keep it: keyed hashes instead of identifiers."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from client.agent.durable import write_durably
from shared_model.errors import SmrfedError

_KEY_BYTES = 32
_HASH_BYTES = 16


class PatientKey:
    """Keyed hashes (HMAC-SHA-256, 16 bytes) of the identifiers that the archive uses.

    Without the key nobody can tell from the ledger whether a known person is in it, nor compare the
    ledgers of two hospitals. The key is 32 random bytes at ``path`` (mode 0600).
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        #: Names the key without telling it; every event of the ledger carries it.
        self.check = hmac.digest(key, b"smrfed ledger key", hashlib.sha256)[:8].hex()

    @classmethod
    def load(cls, path: Path, *, create: bool) -> PatientKey:
        """The key at ``path``, made when ``create`` allows it; raises SMR-E350 and OSError."""
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            if not create:
                raise key_lost(path, "no such file") from None
            key = os.urandom(_KEY_BYTES)
            write_durably(path, key)
        if len(key) != _KEY_BYTES:
            raise key_lost(path, f"{len(key)} bytes")
        return cls(key)

    def hashed(self, patients: Collection[str]) -> frozenset[bytes]:
        """The keyed hash of every identifier."""
        return frozenset(
            hmac.digest(self._key, b"patient\0" + _bytes(name), hashlib.sha256)[:_HASH_BYTES]
            for name in patients
        )


def cohort_digest(patients: Iterable[bytes]) -> str:
    """SHA-256 over the sorted keyed hashes: what an event, and so the chain, knows a cohort by."""
    return hashlib.sha256(b"smrfed cohort\0" + b"".join(sorted(patients))).hexdigest()


def key_lost(path: Path, found: object) -> SmrfedError:
    """SMR-E350: without its key the ledger cannot tell who it has charged."""
    return SmrfedError(
        "SMR-E350",
        f"the key of the privacy ledger's patients, {path}, is missing or another one",
        expected="the key that this ledger was begun with",
        found=found,
        remedy="restore the key file from the backup of the state folder; without it, treat these "
        "patients' budget as spent",
    )


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
