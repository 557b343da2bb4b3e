"""The folder of site keys that runs read: ``SITE.pub``, or ``SITE.revoked`` in its place."""

from __future__ import annotations

from pathlib import Path

from server.checkpoints.durable import replace_durably
from shared_model.enrolment.messages import public_key_of
from shared_model.protocol.keys import public_pem


def key_file(folder: Path, site: str) -> Path:
    """The site's public signing key (PEM)."""
    return folder / f"{site}.pub"


def is_revoked(folder: Path, site: str) -> bool:
    """Whether the site's replies are refused."""
    return _mark(folder, site).exists()


def publish_key(folder: Path, site: str, signing_key: str) -> None:
    """Write the key (raw, hexadecimal) of an enrolled site; a revocation before is over."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_durably(key_file(folder, site), public_pem(public_key_of(signing_key)))
    _mark(folder, site).unlink(missing_ok=True)


def withdraw_key(folder: Path, site: str) -> None:
    """Mark the site as revoked, then remove its key."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_durably(_mark(folder, site), b"")
    key_file(folder, site).unlink(missing_ok=True)


def _mark(folder: Path, site: str) -> Path:
    return folder / f"{site}.revoked"
