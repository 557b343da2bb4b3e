"""Where the processes of a supervisor stand, as JSON that other commands may read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

STATE_FILE = "processes.json"


def write_states(path: Path, states: Sequence[Mapping[str, Any]]) -> None:
    """Replace the file in one step (mode 0600); a full disk costs the file, not the processes."""
    content = {
        "supervisor": os.getpid(),
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processes": [dict(state) for state in states],
    }
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
        temporary.replace(path)
    except OSError:
        return


def read_states(path: Path) -> tuple[dict[str, Any], ...]:
    """The states that a running supervisor wrote; empty when none runs, or they are closed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        supervisor, states = int(content["supervisor"]), tuple(content["processes"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return states if _lives(supervisor) else ()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True  # in another account
    except (OSError, OverflowError):
        return False
    return True
