"""What happens in a run, as lines of JSON beside its checkpoints, for whoever wants to follow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path

from server.rounds.events import Event

_FILE = "events.jsonl"
_FIELDS = tuple(field.name for field in fields(Event))


class EventLog:
    """Appends the driver's events to ``RUN_DIR/events.jsonl``."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / _FILE

    def __call__(self, event: Event) -> None:
        """Append one event, with the time of day (UTC, ISO 8601)."""
        line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **asdict(event)}
        # One write: the watchdog appends to the same file.
        with self._path.open("ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")


class EventFollower:
    """Reads the events that another process appends, starting with those still to come."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / _FILE
        self._offset = self._path.stat().st_size if self._path.exists() else 0

    def new(self) -> Iterator[Event]:
        """The events since the last call; half a line waits for the next one."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            while (line := file.readline()).endswith(b"\n"):
                self._offset += len(line)
                said = json.loads(line)
                yield Event(**{name: said[name] for name in _FIELDS if name in said})
