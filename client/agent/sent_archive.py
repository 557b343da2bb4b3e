"""Copies of sealed answers that nobody can ask for any more, so that what left can be shown."""

from __future__ import annotations

import logging
from pathlib import Path

from client.agent.durable import make_private_folder

_log = logging.getLogger(__name__)


class SentArchive:
    """``folder/RUN/NAME.reply``, moved here from the reply store; the oldest go first.

    Args:
        folder: made when the first answer is moved; must be on the reply store's file system.
        max_bytes: disk that the copies may use together; 0 keeps none.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def take(self, reply: Path) -> None:
        """Move a stored answer here, then drop the oldest beyond the limit.

        A copy that cannot be kept is dropped: it serves reading, and its receipt stays.
        """
        target = self._folder / reply.parent.name / reply.name
        try:
            make_private_folder(target.parent)
            reply.replace(target)
            self._make_room()
        except OSError as error:
            _log.warning("no copy of %s is kept: %s", reply.name, error)
            reply.unlink(missing_ok=True)

    def _make_room(self) -> None:
        files = [(path, path.stat()) for path in self._folder.glob("*/*.reply")]
        used = sum(stat.st_size for _, stat in files)
        for path, stat in sorted(files, key=lambda file: file[1].st_mtime_ns):
            if used <= self._max_bytes:
                return
            path.unlink()
            used -= stat.st_size
