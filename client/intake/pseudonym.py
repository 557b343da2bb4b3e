"""Who a patient is called outside the hospital's systems: a keyed hash, the same every time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import unicodedata
from contextlib import suppress
from pathlib import Path

from client.agent.durable import make_private_folder
from shared_model.errors import SmrfedError

KEY_BYTES = 32
KEY_NAME = "pseudonym.key"
_SYMBOLS = 16


def load_pseudonym_key(state_dir: Path) -> bytes:
    """The site's key, ``state_dir/pseudonym.key`` (mode 0600); made on first use.

    Whoever has it can find out which pseudonym a known PatientID got. Without it the same patient
    would get another pseudonym, and count twice. Raises SMR-E260 for a key that is damaged, cannot
    be read or written, or that others may read.
    """
    path = state_dir / KEY_NAME
    try:
        make_private_folder(state_dir)
        if not path.exists():
            _create(path)
        mode = path.stat().st_mode & 0o777
        key = path.read_bytes()
    except OSError as error:
        raise _bad_key(path, error.strerror or "cannot be read") from None
    if mode & 0o077:
        raise _bad_key(path, f"mode {mode:04o}")
    if len(key) != KEY_BYTES:
        raise _bad_key(path, f"{len(key)} bytes")
    return key


def _create(path: Path) -> None:
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A link, not a rename: of two processes that start at once, the first one's key stays.
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _bad_key(path: Path, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E260",
        f"the key of the pseudonyms {path} cannot be used",
        expected=f"{KEY_BYTES} bytes that only the owner may read (mode 0600)",
        found=found,
        remedy="correct the permissions, or restore the file from a backup; a new key gives every "
        "patient a new pseudonym",
    )


def pseudonym(key: bytes, patient_id: str, issuer: str = "") -> str:
    """``sub-`` and 16 symbols of base32 (80 bits) of HMAC-SHA256 over the normalised identity."""
    identity = f"{normalise_id(issuer)}\0{normalise_id(patient_id)}"
    return f"sub-{keyed_symbols(key, 'patient', identity)}"


def keyed_symbols(key: bytes, purpose: str, text: str, symbols: int = _SYMBOLS) -> str:
    """The first ``symbols`` (5 bits each) of a keyed hash, lower case; other purposes differ."""
    message = f"smrfed {purpose}\0{text}".encode("utf-8", "surrogateescape")
    digest = hmac.digest(key, message, hashlib.sha256)
    return base64.b32encode(digest).decode().lower()[:symbols]


def normalise_id(text: str) -> str:
    """An identifier as it is compared: no case, no blanks, no leading zeros of a mere number.

    Spreadsheet programs drop the zeros of ``000123``; scanners and registries add blanks.
    """
    folded, before = text, None
    # Without its blanks a text may compose anew (E and a free-standing accent), so until it rests.
    while folded != before:
        before = folded
        folded = "".join(unicodedata.normalize("NFKC", folded).casefold().split()).strip("\0")
    return folded.lstrip("0") or "0" if folded.isdecimal() else folded
