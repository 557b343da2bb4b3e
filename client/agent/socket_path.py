"""The agent's unix socket: private to its owner, and free of a dead agent's leavings."""

from __future__ import annotations

import grp
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


def share_socket(path: Path, group: str) -> None:
    """Let a group use the socket: mode 0660, and the folder 0710, so that others find nothing.

    The socket was made for its owner alone and is widened last, in one step that names the group.
    Raises SMR-E474 when the group does not exist, is root's, or this account may not give it.
    """
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:
        raise _unusable_group(group, "no such group") from None
    if number == 0:
        raise _unusable_group(group, "the group of root")
    try:
        os.chown(path.parent, -1, number)
        path.parent.chmod(0o710)
        os.chown(path, -1, number)
        path.chmod(0o660)
    except OSError as error:
        raise _unusable_group(group, error) from None


@contextmanager
def owner_only() -> Iterator[None]:
    """Files and sockets made inside are for the owner only (mode 0600), from their first moment."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _unusable_group(group: str, found: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E474",
        f"the agent's socket cannot be shared with the group {group!r}",
        expected="a group of which the agent's account and the courier's are members",
        found=found,
        remedy="make the group, add both accounts to it and start the agent anew; or take "
        "socket_group out of site.toml, and run agent and courier in one account",
    )


def _unusable(path: Path, found: str, expected: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E411",
        f"the agent cannot listen on {path}",
        expected=expected,
        found=found,
        remedy="set `socket` in site.toml to a short path in a folder of the agent's own",
    )
