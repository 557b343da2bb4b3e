"""The token that opens a local page: made once, in a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from shared_model.errors import SmrfedError

_BYTES = 32


def load_or_create_token(path: Path) -> tuple[str, bool]:
    """The token in ``path``, and whether it was made now (256 random bits, mode 0600).

    Raises SMR-E574 where the file cannot be used, is somebody else's, or others may read it.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path), False
    except OSError as error:
        raise _unusable(path, error) from None
    token = secrets.token_urlsafe(_BYTES)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    return token, True


def _read(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor) as file:
            about = os.fstat(file.fileno())
            token = file.read(200).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, error) from None
    if about.st_mode & 0o077 or about.st_uid != os.geteuid():
        raise _unusable(path, f"mode {about.st_mode & 0o777:04o}, owner {about.st_uid}")
    if len(token) < _BYTES:
        raise _unusable(path, f"{len(token)} characters")
    return token


def _unusable(path: Path, found: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E574",
        f"the token file of the page cannot be used: {path}",
        expected=f"a file of mode 0600 of this account, {_BYTES} characters or more in it",
        found=found,
        remedy="remove it and start the page again: it makes a new token; everybody logs in anew",
    )
