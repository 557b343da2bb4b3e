"""The agent's unix socket: private to its owner, and free of a dead agent's leavings."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.agent.durable import make_private_folder
from shared_model.errors import SmrfedError

# sun_path of Linux and the BSDs, less the closing zero.
MAX_PATH_BYTES = 103


def claim_socket(path: Path) -> None:
    """Make the folder (mode 0700) and remove a socket that a killed agent left behind.

    Only the holder of the state folder's lock may call this. Raises SMR-E411 when the path is too
    long, is taken by another kind of file, or lies in a folder where other users may write.
    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise _unusable(path, f"{len(os.fsencode(path))} bytes", f"at most {MAX_PATH_BYTES} bytes")
    make_private_folder(path.parent)
    mode = path.parent.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _unusable(path, f"folder mode {stat.S_IMODE(mode):04o}", "a folder of mode 0700")
    if path.is_socket():
        path.unlink()
    elif path.exists():
        raise _unusable(path, "another file", "a unix socket, or nothing")


@contextmanager
def owner_only() -> Iterator[None]:
    """Files and sockets made inside are for the owner only (mode 0600), from their first moment."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _unusable(path: Path, found: str, expected: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E411",
        f"the agent cannot listen on {path}",
        expected=expected,
        found=found,
        remedy="set `socket` in site.toml to a short path in a folder of the agent's own",
    )
