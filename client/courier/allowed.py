"""Which app bundles may run at this hospital: the list that it pinned when it joined."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEY = "courier_sha256"


def allowed_bundles(connection: Path) -> frozenset[str]:
    """The SHA-256 of every allowed bundle, from ``connection.toml``, read anew for each message.

    Fails closed: a file that is missing, damaged or of another shape allows nothing. Not read with
    pydantic, because every message starts a process that would import it first.
    """
    try:
        listed = tomllib.loads(connection.read_text(encoding="utf-8"))[_KEY]
    except (OSError, ValueError, KeyError):
        return frozenset()
    if not isinstance(listed, list):
        return frozenset()
    if not all(isinstance(item, str) and _SHA256.fullmatch(item) for item in listed):
        return frozenset()
    return frozenset(listed)
