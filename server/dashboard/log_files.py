"""The last lines of the coordinator's log files, without what looks like a secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from server.dashboard.run_files import tail_lines
from shared_model.observability.json_log import redact

_LINES = 60
_BYTES = 32 << 10
_LONGEST = 500
_FILES = 20


@dataclass(frozen=True)
class LogFile:
    """One log file: its name, when it was last written (UTC), its size and last lines."""

    name: str
    written_at: str
    bytes: int
    lines: tuple[str, ...]


def log_files(folder: Path) -> tuple[LogFile, ...]:
    """The logs of the folder, the one written last first; links and other files are left out."""
    found = []
    try:
        paths = [path for path in folder.iterdir() if path.suffix in (".log", ".jsonl")]
    except OSError:
        return ()
    for path in paths:
        try:
            about = path.lstat()
        except OSError:
            continue
        if path.is_symlink() or not path.is_file():
            continue
        found.append((about.st_mtime, path, about.st_size))
    return tuple(
        LogFile(
            name=path.name,
            written_at=datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds"),
            bytes=size,
            lines=tuple(redacted(line) for line in tail_lines(path, _BYTES)[-_LINES:]),
        )
        for time, path, size in sorted(found, key=lambda one: -one[0])[:_FILES]
    )


def redacted(line: str) -> str:
    """A line that is printable, not too long, and without secrets."""
    # Cut last: half a secret would not be known as one.
    return redact("".join(c if c.isprintable() else " " for c in line))[:_LONGEST]
