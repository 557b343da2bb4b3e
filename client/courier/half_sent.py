"""An answer that its courier has begun to hand over: a file, locked as long as the courier lives.

Flower's SuperNode waits for the rest of a reply for ever, and sends and fetches nothing meanwhile
(``_push_messages`` of flwr 1.41): a courier that dies half-way would silence its hospital. It
leaves a file that nobody locks, by which the supervisor knows, and starts the SuperNode again.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from pathlib import Path
from typing import Any

import httpx

from client.agent.durable import make_private_folder

_FOLDER = "half-sent"
_log = logging.getLogger("smrfed.courier")


class HalfSent:
    """The note of one courier.

    Args:
        connection: the hospital's connection folder.
    """

    def __init__(self, connection: Path) -> None:
        self._path = connection / _FOLDER / str(os.getpid())
        self._file: int | None = None

    def begin(self) -> None:
        """Note that from now on somebody waits for the rest."""
        try:
            make_private_folder(self._path.parent)
            unnamed = self._path.with_name(f".{self._path.name}")
            self._file = os.open(unnamed, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            # It gets its name with the lock held: at no time does it look abandoned.
            fcntl.flock(self._file, fcntl.LOCK_EX)
            unnamed.rename(self._path)
        except OSError as error:
            # An answer is worth more than the note of it.
            _log.warning("the answer is handed over without a note of it: %s", error)

    def done(self) -> None:
        """Nobody waits any more."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        if self._file is not None:
            os.close(self._file)
            self._file = None


class NotedClient:
    """Flower's client of the SuperNode, which notes when a reply has been announced to it."""

    def __init__(self, client: Any, note: HalfSent) -> None:
        self._client = client
        self._note = note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def PushMessages(self, request: Any) -> Any:  # noqa: N802 - Flower's name
        """Announce the reply; from here on the SuperNode waits for the objects in it."""
        self._note.begin()
        try:
            return self._client.PushMessages(request)
        except (httpx.HTTPStatusError, httpx.ConnectError):
            # Refused, or not there: as after a restart of the SuperNode, which waits for nothing.
            self._note.done()
            raise


def abandoned(connection: Path) -> str | None:
    """Why the SuperNode waits for what cannot come, or None."""
    with contextlib.suppress(FileNotFoundError):
        for path in (connection / _FOLDER).iterdir():
            if not path.name.startswith(".") and not _is_locked(path):
                return "waits for the rest of an answer whose courier has died"
    return None


def forget(connection: Path) -> None:
    """Remove all notes: of a SuperNode that starts nobody knows what an earlier one waited for."""
    with contextlib.suppress(OSError):
        for path in (connection / _FOLDER).iterdir():
            path.unlink(missing_ok=True)


def _is_locked(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True  # handed over this moment
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    # One that was handed over between the two lines has no name any more.
    return not path.exists()
