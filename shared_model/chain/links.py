"""The last known link of a hash chain, kept beside it, so that a shortened chain is noticed."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path

GENESIS = "0" * 64


def chain_digest(previous: str, content: Mapping[str, object]) -> str:
    """SHA-256 over the previous link and the canonical JSON of this one."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def owner_only(path: str | Path, flags: int) -> int:
    """An opener that makes files for the owner alone (mode 0600), whatever the umask says."""
    return os.open(path, flags, 0o600)


def write_anchor(path: Path, number: int, digest: str) -> None:
    """Store number and digest of the newest link, atomically and durably.

    Writers may overtake each other, so the anchor may name a link that is not the newest; it never
    names one that was not stored.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with open(temporary, "w", encoding="ascii", opener=owner_only) as file:
            file.write(f"{number} {digest}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        # A full disk must not be filled with what could not be written.
        temporary.unlink(missing_ok=True)
        raise


def read_anchor(path: Path) -> tuple[int, str] | None:
    """Number and digest that the chain must still contain; ``None`` before the first link.

    A file that does not hold both reads as link -1, which no chain contains.
    """
    try:
        fields = path.read_text(encoding="ascii").split()
    except FileNotFoundError:
        return None
    if len(fields) != 2 or not fields[0].isdigit():
        return -1, ""
    return int(fields[0]), fields[1]
