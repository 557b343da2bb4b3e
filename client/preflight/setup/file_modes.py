"""Whether keys and records are for the agent's account alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from client.agent.socket_path import MAX_PATH_BYTES
from client.preflight.site import CheckedSite
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Note

_OWNER_ONLY = 0o077
# The network account may read in the state folder what it needs, by a group.
_NO_STRANGERS = 0o027
_NOT_WRITTEN = 0o022


def check_modes(site: CheckedSite) -> str:
    """Modes and owners of the state folder, the keys and the two configuration files.

    Raises SMR-E443, naming all of them.
    """
    files = [watched for watched in _watched(site) if _in_sight(watched.path)]
    wrong = [text for watched in files if (text := _wrong(watched))]
    if wrong:
        raise SmrfedError(
            "SMR-E443",
            "files of this hospital are open to others, or belong to somebody else",
            expected="keys of mode 0600 in folders of mode 0700, owned by the account that runs "
            "smrfed-site; site.toml and policy.toml written by nobody else",
            found="; ".join(wrong),
            remedy="chmod and chown them, and ask who could read the keys until now; a key that "
            "others had is replaced by joining again",
        )
    if os.geteuid() == 0:
        return Note("in order; run the check as the agent's own account: root may read everything")
    return f"{len(files)} files and folders are closed to others"


def check_socket(site: CheckedSite) -> str:
    """The path of the agent's socket; raises SMR-E411 where the system cannot hold it."""
    path = site.config.socket.absolute()
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        raise _socket(path, f"at most {MAX_PATH_BYTES} bytes", f"{length} bytes")
    folder = path.parent
    if folder.exists() and folder.stat().st_mode & _NOT_WRITTEN:
        mode = stat.S_IMODE(folder.stat().st_mode)
        raise _socket(path, "a folder of mode 0700", f"folder mode {mode:04o}")
    if path.exists() and not path.is_socket():
        raise _socket(path, "a unix socket, or nothing", "another file")
    return f"{path}, {length} of {MAX_PATH_BYTES} bytes"


@dataclass(frozen=True)
class _Watched:
    """A path, the permission bits that it must not have, and whether it is this account's own."""

    path: Path
    bits: int
    own: bool = False


def _watched(site: CheckedSite) -> Iterator[_Watched]:
    state, connection = site.state, site.connection_folder
    yield _Watched(state.path, _NO_STRANGERS)
    yield _Watched(state.key, _OWNER_ONLY, own=True)
    yield _Watched(state.ledger, _OWNER_ONLY, own=True)
    yield _Watched(state.ledger.with_name(f"{state.ledger.name}.key"), _OWNER_ONLY, own=True)
    yield _Watched(state.path / "pseudonym.key", _OWNER_ONLY, own=True)
    yield _Watched(state.receipts, _NO_STRANGERS)
    # As `smrfed-site up` wants them; the network account may own them.
    yield _Watched(connection.node_key, _OWNER_ONLY)
    yield _Watched(connection.superexec_secret, _OWNER_ONLY)
    yield _Watched(site.config.policy, _NOT_WRITTEN)
    yield _Watched(site.config.coordinator_key, _NOT_WRITTEN)


def _in_sight(path: Path) -> bool:
    """Whether it is there, as far as this account may look: what is closed to it is no problem."""
    try:
        return path.exists()
    except PermissionError:
        return False


def _wrong(watched: _Watched) -> str:
    path = watched.path
    try:
        facts = path.stat()
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    mode, problems = stat.S_IMODE(facts.st_mode), []
    if mode & watched.bits:
        problems.append(f"mode {mode:04o}")
    if watched.own and facts.st_uid != os.geteuid() and os.geteuid() != 0:
        problems.append(f"owned by user {facts.st_uid}, the check runs as {os.geteuid()}")
    return f"{path}: {', '.join(problems)}" if problems else ""


def _socket(path: Path, expected: str, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E411",
        f"the agent cannot listen on {path}",
        expected=expected,
        found=found,
        remedy="set `socket` in site.toml to a short path in a folder of the agent's own",
    )
